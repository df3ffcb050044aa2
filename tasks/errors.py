"""Errors in a task's data, with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from embshare.errors import EmbshareError

__all__ = ["DataError", "MissingDataError", "Place"]


class Place(NamedTuple):
    """A place in a data set."""

    path: Path | str
    """File or folder, or the name of a data set that is no file (``hub:NAME``)."""
    line: int | str | None = None
    """Line from 1, entry of a JSON file (``images[3]``), or ``None`` for the whole file."""

    def __str__(self) -> str:
        match self.line:
            case None:
                return f"`{self.path}`"
            case int(number):
                return f"`{self.path}`, line {number:,}"
            case entry:
                return f"`{self.path}`, `{entry}`"


class DataError(EmbshareError, ValueError):
    """Data of a task are invalid; raised before training.

    Args:
        path: file, folder or name, as in `Place`.
        line: line or entry, as in `Place`.
        needs: requirement, after "must".
        has: finding, after "but".
        hint: way to solve it, a sentence.
    """

    def __init__(
        self,
        path: Path | str,
        line: int | str | None = None,
        *,
        needs: str,
        has: str,
        hint: str,
    ) -> None:
        comma = "" if line is None else ","
        super().__init__(f"{Place(path, line)}{comma} must {needs}, but {has}. {hint}")
        self.path, self.line, self.needs, self.has, self.hint = path, line, needs, has, hint


class MissingDataError(DataError):
    """A data set, a split of it or files that it names are missing."""
