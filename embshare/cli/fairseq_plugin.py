"""``embshare fairseq-plugin``: the folder for ``fairseq-train --user-dir``."""

from __future__ import annotations

import typer

from embshare.adapters.fairseq import PLUGIN

__all__ = ["fairseq_plugin"]


def fairseq_plugin() -> None:
    """Print the folder that fairseq's commands take as --user-dir, which adds --embshare to them."""
    typer.echo(PLUGIN)
