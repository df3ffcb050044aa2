"""``embshare share``: plan, share and save."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import embshare
from embshare.adapters import huggingface
from embshare.adapters.vision import with_tables
from embshare.cli.models import FORMS, build_model, stored_elsewhere
from embshare.cli.options import SHARING, with_options
from embshare.cli.output import check_not_source, check_target, show
from embshare.config import ShareConfig
from embshare.errors import CheckpointError
from embshare.runtime.bank import require_bank

__all__ = ["share_model"]

RANDOM = "The shared weights start at random: train it, or fit the model's own by --init svd."
FITTED = "The shared weights start from a fit of the model's own: evaluate it, and train it."


@with_options({"sharing": SHARING})
def share_model(
    model: Annotated[str, typer.Argument(help=f"Model: {FORMS}.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.", show_default=False)],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of the same names in that folder.")
    ] = False,
    weights: Annotated[bool, typer.Option(help="Load the weights of the model.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the random initialization.")] = 0,
    *,
    sharing: dict[str, Any],
) -> None:
    """Share a model and save it: the table, a projection, biases and norms.

    A model of transformers becomes a folder that `from_pretrained` reads, with a model card and
    with all that lay beside the weights: tokenizer, processors, and what sentence-transformers
    keeps. A model with trained weights starts from them.
    """
    config = ShareConfig(**sharing)
    check_not_source(model, out)
    _check_folder(out, overwrite)
    if weights and stored_elsewhere(model):
        _check_kind(model, config)
    torch.manual_seed(seed)
    built = build_model(model, weights=weights)
    plan = built.plan(with_tables(built.model, config))
    shared = embshare.share_from_embedding(built.model, plan)
    show(built.origin)
    show(embshare.summarize(shared))
    for note in require_bank(shared).plan.poor_sources():
        show(note)
    if huggingface.is_pretrained(shared):
        huggingface.export(shared, out, made_from=model)
    else:
        embshare.save(shared, out)
    show(f"Start: {require_bank(shared).plan.start_line}.")
    show(RANDOM if plan.start == "random" else FITTED)
    show(f"Saved in {out}.")


def _check_folder(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise CheckpointError(path=out, finding="not a folder", hint="Name a folder.")
    check_target(out / "embshare.json") if out.exists() else check_target(out)
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise CheckpointError(
            path=out,
            finding="not empty",
            hint="Name another folder, or replace files of the same names by --overwrite.",
        )


def _check_kind(model: str, config: ShareConfig) -> None:
    """Plan for the shapes alone, so that what cannot be shared is said before weights are loaded.

    Raises:
        PlanError: the model cannot be shared like that.
    """
    try:
        sketch = build_model(model, weights=False, meta=True)
    except Exception:  # not every model can be built on meta: the real one will tell
        return
    sketch.plan(with_tables(sketch.model, config))
