"""What can be wrong with pictures, captions and scores; all of it is found before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embshare.errors import EmbshareError

__all__ = [
    "CaptionFileError",
    "CaptioningDataError",
    "CaptionsAmbiguousError",
    "EmptySplitError",
    "EncoderError",
    "LayoutMissingError",
    "PictureError",
    "PicturesMissingError",
    "ScoreError",
    "ScoresLeftOutWarning",
    "VocabularyFileError",
]


class CaptioningDataError(EmbshareError, ValueError):
    """Pictures or captions cannot be read or used."""


class LayoutMissingError(CaptioningDataError):
    """A folder holds no captions in a layout that is known."""

    def __init__(self, *, folder: Path, layouts: Sequence[str]) -> None:
        if folder.is_dir():
            found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
            has = f"holds {found}"
        else:
            has = "is not a folder"
        super().__init__(
            f"`{folder}` must be a folder with one of {', '.join(layouts)}, but {has}. Name the "
            "folder of a data set in one of these layouts, or leave `data` out to use drawn scenes."
        )
        self.folder, self.layouts = folder, tuple(layouts)


class CaptionsAmbiguousError(CaptioningDataError):
    """A folder holds several files of captions, of which one would be read."""

    def __init__(self, *, folder: Path, found: Sequence[str]) -> None:
        super().__init__(
            f"`{folder}` must hold one file of captions in this layout, but holds "
            f"{', '.join(found)}. Name the one that is meant: `data` may be the file itself."
        )
        self.folder, self.found = folder, tuple(found)


class CaptionFileError(CaptioningDataError):
    """A file of captions, or a line of it, is not as its layout has it."""

    def __init__(self, *, place: str, needs: str, finding: str, way_out: str) -> None:
        super().__init__(f"{place} must {needs}, but {finding}. {way_out}")
        self.place, self.needs, self.finding = place, needs, finding


class EmptySplitError(CaptioningDataError):
    """A split has no pictures."""

    def __init__(self, *, place: str, split: str, has: str) -> None:
        super().__init__(
            f"{place} must give pictures with captions for the split `{split}`, but gives {has}. "
            "Fetch the files again, or name another folder."
        )
        self.place, self.split = place, split


class PicturesMissingError(CaptioningDataError):
    """Captions name pictures that are not there."""

    def __init__(
        self, *, place: str, file: str, count: int, of: int, looked: Sequence[str]
    ) -> None:
        super().__init__(
            f"{place} names the picture `{file}`, which is in none of {', '.join(looked)}; in all "
            f"{count:,} of {of:,} pictures are missing. Put them there, or name their folder as "
            "`images`."
        )
        self.place, self.file, self.count = place, file, count


class PictureError(CaptioningDataError):
    """A picture cannot be decoded."""

    def __init__(self, *, path: Path, finding: str, place: str | None = None) -> None:
        named = "" if place is None else f", named in {place.rstrip(',')},"
        super().__init__(
            f"`{path}`{named} must be a whole picture that Pillow can read, but {finding}. Fetch "
            "the file again, or take it out of the captions."
        )
        self.path, self.finding, self.place = path, finding, place


class VocabularyFileError(CaptioningDataError):
    """A saved vocabulary, or what is saved beside it, cannot be read."""

    def __init__(self, *, path: Path, finding: str) -> None:
        super().__init__(
            f"`{path}` must be as it was saved beside its model, but cannot be read: {finding}. "
            "Name the folder that `embshare train` wrote."
        )
        self.path, self.finding = path, finding


class EncoderError(EmbshareError, ValueError):
    """There is no such image encoder, or its weights are not those of it."""

    def __init__(self, *, encoder: str, needs: str, finding: str, way_out: str) -> None:
        super().__init__(f"the encoder `{encoder}` must {needs}, but {finding}. {way_out}")
        self.encoder, self.needs, self.finding = encoder, needs, finding


class ScoreError(EmbshareError):
    """A score cannot be computed: a package, Java or a file is missing, or a program failed."""

    def __init__(self, *, score: str, finding: str, way_out: str) -> None:
        super().__init__(f"`{score}` cannot be computed: {finding}. {way_out}")
        self.score, self.finding, self.way_out = score, finding, way_out


class ScoresLeftOutWarning(UserWarning):
    """Some published scores cannot be computed on this machine; the others are."""
