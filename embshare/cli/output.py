"""Printing and writing for commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import typer
from rich import box
from rich.table import Table

from embshare.errors import CheckpointError

__all__ = ["check_not_source", "check_target", "make_folder", "metric_table", "show", "write"]


def show(what: object) -> None:
    """Print something on stdout, and an empty line after it."""
    typer.echo(f"{what}\n")


def metric_table(metrics: Mapping[str, float], first: str) -> Table:
    """Metrics by name, the one that models are compared by at the top."""
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name in sorted(metrics, key=lambda name: name != first):
        style = "bold" if name == first else None
        table.add_row(name, f"{metrics[name]:,.4f}".rstrip("0").rstrip("."), style=style)
    return table


def check_target(path: Path, *, new: bool = False) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Args:
        path: file.
        new: whether it must not exist yet.
    Raises:
        CheckpointError: its folder is not there, it is a folder itself, or there already.
    """
    if new and path.is_file():
        raise CheckpointError(path=path, finding="there already", hint="Name another file.")
    if path.is_dir():
        raise CheckpointError(path=path, finding="a folder", hint="Name a file in it.")
    if not path.parent.is_dir():
        raise CheckpointError(
            path=path, finding=f"there is no folder `{path.parent}`", hint="Make it first."
        )


def check_not_source(source: str, out: Path) -> None:
    """Refuse to write into the folder that a model is read from, whatever it is called there.

    Links are followed, of folders and of single files: a copy made of links would be written
    through.

    Args:
        source: MODEL as given; only a folder is checked.
        out: folder of results, which may not exist yet.
    Raises:
        CheckpointError: one of them is, holds or is linked to the other.
    """
    folder = Path(source)
    if not folder.is_dir():
        return
    theirs, mine = folder.resolve(), out.resolve()
    if not mine.is_dir() or not any(mine.iterdir()):
        return  # nothing is there that could be lost
    around = any(each.samefile(mine) for each in (theirs, *theirs.parents))
    inside = any(each.samefile(theirs) for each in mine.parents)
    if around or inside or _identities(mine) & _identities(theirs):
        raise CheckpointError(
            path=out,
            finding=f"part of `{source}`, the model to read, or linked to it",
            hint="Name another folder: a source is never written over.",
        )


def _identities(folder: Path) -> set[tuple[int, int]]:
    """Device and number of each file, by which links and hard links are one file."""
    found = (path.stat() for path in folder.rglob("*") if path.is_file())
    return {(file.st_dev, file.st_ino) for file in found}


def make_folder(path: Path) -> None:
    """Make a folder, unless it is there and empty: what it holds might be written over.

    Raises:
        CheckpointError: it cannot be made, or holds something.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        finding = f"no folder that can be made ({error.strerror})"
        raise CheckpointError(path=path, finding=finding, hint="Name another.") from error
    if held := next(path.iterdir(), None):
        finding = f"not empty (it holds {held.name})"
        raise CheckpointError(path=path, finding=finding, hint="Name a new folder.")


def write(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            path=path, finding=f"cannot be written ({error.strerror})", hint="Name another file."
        ) from error
