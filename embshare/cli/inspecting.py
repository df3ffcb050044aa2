"""``embshare inspect``: what would be shared, and with ``--verify`` whether it works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from embshare._tables import render
from embshare.adapters.inputs import inputs_from
from embshare.adapters.verify import Verification, verify
from embshare.adapters.vision import with_tables
from embshare.cli.models import FORMS, Built, build_model
from embshare.cli.options import SHARING, with_options
from embshare.cli.output import check_target, show, write
from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.plan.values import SharePlan
from embshare.report.drawing import check_format, draw_plan
from embshare.sharing import share_from_embedding
from embshare.summary import Summary, summarize, totals_table

__all__ = ["inspect_model"]


WITHOUT = "Planned without weights: with --weights, a trained model would start from them by svd."


@with_options({"sharing": SHARING})
def inspect_model(
    model: Annotated[str, typer.Argument(help=f"Model: {FORMS}.", show_default=False)],
    plot: Annotated[
        Path | None, typer.Option(help="File for a plot of the plan: plan.png, .svg or .pdf.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="File for the plan as JSON.")] = None,
    weights: Annotated[
        bool,
        typer.Option(help="Load the model's weights: gains are matched to them."),
    ] = False,
    verifying: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Share copies of the model, run, train a step, save, load and materialize them; "
            "exit with 1 where one of these fails.",
        ),
    ] = False,
    given: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="With --verify: a function that returns what the model is called with, a tensor, "
            "a tuple of arguments or a dict of keyword arguments.",
            metavar="FILE.py:FUNCTION",
        ),
    ] = None,
    *,
    sharing: dict[str, Any],
) -> None:
    """Show which weights would be read from which columns, and what that would save."""
    config = ShareConfig(**sharing)
    for target in (plot, json):
        if target is not None:
            check_target(target)
    if plot is not None:
        check_format(plot)
    if given is not None and not verifying:
        raise InvalidValueError(what="inspect", faults=["--input is for --verify alone"])
    inputs = None if given is None else inputs_from(given)
    built = build_model(model, weights=weights, meta=not (weights or verifying))
    plan = built.plan(with_tables(built.model, config))
    show(built.origin)
    show(plan)
    if not weights and plan.init == "random":
        show(WITHOUT)
    found = _verify(model, built, config, plan, inputs) if verifying else None
    show(render(totals_table(count(built.model, plan))))
    if json is not None:
        write(json, plan.to_json() + "\n")
    if plot is not None:
        draw_plan(plan, plot)
    if found is not None:
        show(found)
        if found.failed is not None:
            raise typer.Exit(1)


def _verify(
    name: str, built: Built, config: ShareConfig, plan: SharePlan, inputs: object
) -> Verification:
    def again() -> torch.nn.Module:
        model = build_model(name, weights=False).model
        with_tables(model, config)
        return model

    # fairseq's weight norms keep tensors that cannot be copied. All others are copied, so that
    # weights are not read from disk again.
    return verify(again if name.startswith("fairseq:") else built.model, plan, inputs=inputs)


def count(model: torch.nn.Module, plan: SharePlan) -> Summary:
    """The numbers of the shared model, counted on meta: a start from weights changes none."""
    return summarize(share_from_embedding(model.to("meta"), plan, start=False))
