"""Errors of vocabularies; those of data are `embshare.tasks.errors`."""

from __future__ import annotations

from pathlib import Path

from embshare.errors import EmbshareError

__all__ = ["VocabularyFileError", "VocabularySizeError"]


class VocabularySizeError(EmbshareError, ValueError):
    """A vocabulary is asked for that cannot be made from the training set."""

    def __init__(self, *, needs: str, has: int, way_out: str) -> None:
        super().__init__(f"`vocabulary_size` must be {needs}, but is {has:,} instead. {way_out}")
        self.needs, self.has, self.way_out = needs, has, way_out


class VocabularyFileError(EmbshareError, ValueError):
    """A saved vocabulary cannot be read."""

    def __init__(self, *, path: Path, finding: str) -> None:
        super().__init__(
            f"`{path}` must be a vocabulary as it was saved beside its model, but cannot be read: "
            f"{finding}. Name the folder that `embshare train` wrote, or a tokenizer's."
        )
        self.path, self.finding = path, finding
