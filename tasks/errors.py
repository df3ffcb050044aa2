"""Errors in a task's data, with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from embshare.errors import EmbshareError

__all__ = ["DataError", "MissingDataError", "Place", "encoding_error"]


class Place(NamedTuple):
    """A place in a data set."""

    path: Path
    """File or folder."""
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
        path: file or folder, or the name of a data set that is neither (``hub:NAME``).
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
        place, comma = Place(Path(path), line), "" if line is None else ","
        super().__init__(f"{place}{comma} must {needs}, but {has}. {hint}")
        self.path, self.line, self.needs, self.has, self.hint = *place, needs, has, hint


class MissingDataError(DataError):
    """A data set, a split of it or files that it names are missing."""


def encoding_error(path: Path, line: int, *, byte: int, guess: str) -> DataError:
    """Return the error for a file that is not UTF-8.

    Args:
        path: file.
        line: line of the first invalid byte, from 1.
        byte: the byte itself.
        guess: likely encoding of the file, as ``iconv`` names it.
    """
    return DataError(
        path,
        line,
        needs="be UTF-8",
        has=f"has the byte 0x{byte:02x} where no character can have it",
        hint=f"Convert the file, for example with `iconv -f {guess} -t utf-8`.",
    )
