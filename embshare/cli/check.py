"""``embshare check``: what is wrong with, or unexpected in, a saved model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from embshare.adapters.errors import ModelNotBuiltError
from embshare.check import Findings, check
from embshare.checkpoint_files import DESCRIPTION
from embshare.checks.files import check_folder
from embshare.cli.application import message
from embshare.errors import CheckpointError, EmbshareError
from embshare.runtime.bank import banks_of

__all__ = ["check_saved"]


def check_saved(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder that embshare.save, or save_pretrained of a shared model, wrote.",
            show_default=False,
        ),
    ],
) -> None:
    """Check a saved model: files, plan, sizes, numbers. Nothing is changed.

    Exit status: 0 where nothing is found, 1 where something is, 2 where the folder cannot be read.
    """
    try:
        findings = _look(folder)
    except EmbshareError as error:
        typer.echo(f"error: {message(error)}", err=True)
        raise typer.Exit(2) from None
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(findings)
    else:
        typer.echo(str(findings))
    raise typer.Exit(1 if findings else 0)


def _look(folder: Path) -> Findings:
    if not folder.is_dir():
        raise CheckpointError(
            path=folder, finding="there is no such folder", hint="Name one that holds a model."
        )
    if (folder / DESCRIPTION).exists():
        return check_folder(folder)
    from embshare.adapters import huggingface

    inner = huggingface.model_folder(folder)
    if not _is_shared(inner):
        raise CheckpointError(
            path=folder,
            finding=f"holds no shared model: neither {DESCRIPTION} nor a config.json that says so",
            hint="Name a folder that embshare.save or save_pretrained of a shared model wrote.",
        )
    if not huggingface.has_weights(inner):
        raise ModelNotBuiltError(
            model=str(folder), finding="has no weights", hint="Take another copy."
        )
    model = huggingface.build(str(inner), weights=True)
    if not banks_of(model):
        raise CheckpointError(
            path=folder, finding="was loaded as a dense model", hint="Save it again."
        )
    return check(model.eval())


def _is_shared(folder: Path) -> bool:
    """Whether a folder of transformers has an entry of this library's in its configuration."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        entry = config.get("quantization_config")
        return isinstance(entry, dict) and entry.get("quant_method") == "embshare"
    except (OSError, ValueError, AttributeError):
        return False
