"""What is wrong with a task's data: the file and line, the need, the finding, and what helps."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from embshare.errors import EmbshareError

__all__ = ["DataError", "MissingDataError", "Place"]


class Place(NamedTuple):
    """Where something stands in a data set."""

    path: Path
    line: int | str | None = None
    """A line from 1, an entry of a JSON file (``images[3]``), or ``None`` for the whole file."""

    def __str__(self) -> str:
        match self.line:
            case None:
                return f"`{self.path}`"
            case int(number):
                return f"`{self.path}`, line {number:,}"
            case entry:
                return f"`{self.path}`, `{entry}`"


class DataError(EmbshareError, ValueError):
    """A file that a task reads is not as it must be; raised before training.

    Args:
        path: of the file or folder.
        line: as in `Place`.
        needs: what it must do or be.
        has: what was found.
        hint: what helps.
    """

    def __init__(
        self, path: Path, line: int | str | None = None, *, needs: str, has: str, hint: str
    ) -> None:
        comma = "" if line is None else ","
        super().__init__(f"{Place(path, line)}{comma} must {needs}, but {has}. {hint}")
        self.path, self.line, self.needs, self.has, self.hint = path, line, needs, has, hint


class MissingDataError(DataError):
    """A data set, a split of it or files that it names are not there."""
