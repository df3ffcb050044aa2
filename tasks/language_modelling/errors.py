"""What can be wrong with a text; all of it is found before training starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embshare.errors import EmbshareError

__all__ = [
    "CorpusError",
    "EmptySplitError",
    "SplitMissingError",
    "TextEncodingError",
    "VocabularyFileError",
    "VocabularySizeError",
]


class CorpusError(EmbshareError, ValueError):
    """A text cannot be read or used."""


class SplitMissingError(CorpusError):
    """A data folder, or the file of one of its splits, is not there."""

    def __init__(self, *, folder: Path, split: str, names: Sequence[str]) -> None:
        if folder.is_dir():
            found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
            has = f"the folder holds {found}"
        else:
            has = "that is not a folder"
        super().__init__(
            f"`{folder}` must be a folder with the split `{split}` as {' or '.join(names)}, but "
            f"{has}. Name the folder of a text in the WikiText layout, or leave `data` out to "
            "use the text that comes with Python."
        )
        self.folder, self.split, self.names = folder, split, tuple(names)


class EmptySplitError(CorpusError):
    """The file of a split is there, and holds no words."""

    def __init__(self, *, path: Path, split: str) -> None:
        super().__init__(
            f"`{path}` must hold the text of the split `{split}`, but has no words in it. "
            "Fetch the file again, or name another folder."
        )
        self.path, self.split = path, split


class TextEncodingError(CorpusError):
    """A file is not UTF-8."""

    def __init__(self, *, path: Path, line: int, byte: int, guess: str = "latin1") -> None:
        super().__init__(
            f"`{path}`, line {line:,}, must be UTF-8, but has the byte 0x{byte:02x} where no "
            "character can have it. Convert the file, for example with "
            f"`iconv -f {guess} -t utf-8`."
        )
        self.path, self.line, self.byte, self.guess = path, line, byte, guess


class VocabularySizeError(CorpusError):
    """A vocabulary is asked for that cannot be made from the training side."""

    def __init__(self, *, needs: str, has: int, way_out: str) -> None:
        super().__init__(f"`vocabulary_size` must be {needs}, but is {has:,} instead. {way_out}")
        self.needs, self.has, self.way_out = needs, has, way_out


class VocabularyFileError(CorpusError):
    """A saved vocabulary cannot be read."""

    def __init__(self, *, path: Path, finding: str) -> None:
        super().__init__(
            f"`{path}` must be a vocabulary as it was saved beside its model, but cannot be read: "
            f"{finding}. Name the folder that `embshare train` wrote, or a tokenizer's."
        )
        self.path, self.finding = path, finding
