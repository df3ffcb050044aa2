"""What can be wrong with a text for pretraining; all of it is found before training starts."""

from __future__ import annotations

from pathlib import Path

from embshare.errors import EmbshareError

__all__ = [
    "DatasetNotFoundError",
    "DatasetRowError",
    "NoTextError",
    "PretrainingDataError",
    "TextTooShortError",
    "TokenizerNotForTaskError",
]


class PretrainingDataError(EmbshareError, ValueError):
    """A text or a vocabulary cannot be used for pretraining."""


class NoTextError(PretrainingDataError):
    """A folder holds no text."""

    def __init__(self, *, folder: Path, finding: str) -> None:
        super().__init__(
            f"`{folder}` must be a folder with train and valid in the WikiText layout, or with any "
            f"files *.txt, but {finding}. Name another folder, or leave `data` out to use the "
            "text that comes with Python."
        )
        self.folder, self.finding = folder, finding


class DatasetNotFoundError(PretrainingDataError):
    """A data set of the hub cannot be read."""

    def __init__(self, *, name: str, finding: str) -> None:
        super().__init__(
            f"`dataset` {name!r} must be a data set that the package `datasets` can read as a "
            f"stream, but {finding}. Write name:configuration, and name its text with `column`."
        )
        self.name, self.finding = name, finding


class DatasetRowError(PretrainingDataError):
    """A row of a data set holds no text."""

    def __init__(self, *, name: str, split: str, row: int, column: str, has: object) -> None:
        super().__init__(
            f"row {row:,} of the split `{split}` of `dataset` {name!r} must have a string in its "
            f"column `{column}`, but has {has!r:.40}. Leave such rows out of the set, or name "
            "another column with `column`."
        )
        self.name, self.split, self.row, self.column, self.has = name, split, row, column, has


class TextTooShortError(PretrainingDataError):
    """A side of the text has too few symbols."""

    def __init__(self, *, side: str, needs: int, has: int, way_out: str) -> None:
        super().__init__(
            f"the {side} side of the text must have at least {needs:,} symbols, but has {has:,}. "
            f"{way_out}"
        )
        self.side, self.needs, self.has, self.way_out = side, needs, has, way_out


class TokenizerNotForTaskError(PretrainingDataError):
    """A tokenizer lacks what this task needs."""

    def __init__(self, *, name: str, finding: str, way_out: str) -> None:
        super().__init__(
            f"the tokenizer `{name}` cannot be used for pretraining: {finding}. {way_out}"
        )
        self.name, self.finding, self.way_out = name, finding, way_out
