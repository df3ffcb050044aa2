"""Pictures with their captions in three splits, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal, get_args

from embshare.tasks.captioning.errors import EmptySplitError

__all__ = ["SPLITS", "CaptionSet", "Picture", "Split"]

Split = Literal["train", "valid", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)


@dataclass(frozen=True)
class Picture:
    """One picture and what people said of it."""

    name: str
    """As the captions' file has it, or a number."""
    captions: tuple[str, ...]
    """One or more, as they were written."""
    path: Path | None
    """``None`` for a picture that is drawn."""
    place: str
    """File and line that name it."""
    image_id: int | str | None = None
    """As COCO's annotations know it, where the layout tells."""


@dataclass(frozen=True)
class CaptionSet:
    """A data set of pictures and captions."""

    name: str
    """Where it came from, for a report."""
    splits: Mapping[Split, tuple[Picture, ...]]
    note: str = ""
    """What a reader of results should know of the splits."""

    def check(self, needed: Sequence[Split]) -> None:
        """See to it that some splits are there.

        Raises:
            EmptySplitError: one of them has no pictures.
        """
        for split in needed:
            if not self.splits.get(split):
                given = {name: len(found) for name, found in self.splits.items() if found}
                has = ", ".join(f"{count:,} for {name}" for name, count in given.items()) or "none"
                raise EmptySplitError(place=f"`{self.name}`", split=split, has=has)

    def pictures(self, split: Split) -> tuple[Picture, ...]:
        """Those of one split, which may be none."""
        return self.splits.get(split, ())

    def fingerprint(self) -> str:
        """Of all names and captions in order, to tell data sets of one name apart."""
        digest = blake2b(digest_size=8)
        for split in SPLITS:
            for picture in self.pictures(split):
                digest.update("\0".join((split, picture.name, *picture.captions)).encode())
        return digest.hexdigest()
