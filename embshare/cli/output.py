"""What commands print and write."""

from __future__ import annotations

from pathlib import Path

import typer

from embshare.errors import CheckpointError

__all__ = ["check_target", "show", "write"]


def show(what: object) -> None:
    """Print something on stdout, and an empty line after it."""
    typer.echo(f"{what}\n")


def check_target(path: Path) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Raises:
        CheckpointError: its folder is not there, or it is a folder itself.
    """
    if path.is_dir():
        raise CheckpointError(path=path, finding="a folder", way_out="Name a file in it.")
    if not path.parent.is_dir():
        raise CheckpointError(
            path=path, finding=f"there is no folder `{path.parent}`", way_out="Make it first."
        )


def write(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            path=path, finding=f"cannot be written ({error.strerror})", way_out="Name another file."
        ) from error
