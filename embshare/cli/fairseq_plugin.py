"""``embshare fairseq-plugin``: the folder for ``fairseq-train --user-dir``."""

from __future__ import annotations

import typer

from embshare.adapters.fairseq import PLUGIN

__all__ = ["fairseq_plugin"]


def fairseq_plugin() -> None:
    """Print the folder for fairseq's --user-dir, which adds --embshare to its commands."""
    typer.echo(PLUGIN)
