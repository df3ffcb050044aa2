"""Which layout a folder has, and its data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from embshare.tasks.captioning.dataset import SPLITS, CaptionSet, Picture, Split
from embshare.tasks.captioning.errors import CaptionsAmbiguousError, LayoutMissingError
from embshare.tasks.captioning.layouts.coco import read_coco
from embshare.tasks.captioning.layouts.karpathy import read_karpathy
from embshare.tasks.captioning.layouts.pictures import PictureFolders, collect
from embshare.tasks.captioning.layouts.reading import check_names
from embshare.tasks.captioning.layouts.table import read_table
from embshare.tasks.captioning.layouts.tokens import find_lists, read_token_file

__all__ = ["LAYOUTS", "load_folder"]

TABLE: Final = "captions.tsv"
KARPATHY: Final = ("dataset_*.json", "dataset.json")
COCO_TRAIN: Final = "captions_train*.json"
COCO_VALID: Final = "captions_val*.json"
TOKENS: Final = ("*.token.txt", "*.token")
LEMMAS: Final = "*.lemma.*"
"""Captions of words without their endings, which Flickr8k's archive has beside the written ones;
they are read where that file itself is named."""
LAYOUTS: Final = (TABLE, KARPATHY[0], f"{COCO_VALID} ({COCO_TRAIN})", f"{TOKENS[0]} (split lists)")
BELOW: Final = (".", "annotations", "text", "Flickr8k_text", "karpathy")
COCO_NOTE: Final = (
    "COCO's test captions are not published: `test` is `valid`, the file captions_val. For a test "
    "split of its own use Karpathy's dataset_coco.json"
)

Found = dict[Split, list[Picture]]


def load_folder(
    data: Path, images: Path | None = None, *, needed: Sequence[Split] = SPLITS
) -> CaptionSet:
    """Read the captions in a folder, and find their pictures; none is opened.

    Args:
        data: the folder, or the file of captions in it.
        images: where the pictures are, if not in one of the usual places.
        needed: splits; others are left out, and their pictures need not be there.
    Raises:
        LayoutMissingError: it holds no captions in a known layout.
        CaptionsAmbiguousError: it holds several files of captions in one layout.
        CaptionFileError: a file is not as its layout has it; with file and line.
        PicturesMissingError: a picture is not there.
        EmptySplitError: a split has no pictures.
    """
    root = data.parent if data.is_file() else data
    splits, note, more = _read(data)
    folders = PictureFolders.around(root, images, more)
    captions = CaptionSet(str(data), {split: tuple(rows) for split, rows in splits.items()})
    captions.check(needed)
    every = iter(collect([row for split in needed for row in splits[split]], folders))
    found = {split: tuple(next(every) for _ in splits[split]) for split in needed}
    return CaptionSet(str(data), found, note)


def _read(data: Path) -> tuple[Found, str, tuple[str, ...]]:
    """Splits, a note, and folders that pictures of this layout may be in."""
    if data.is_file():
        return _read_file(data)
    for folder in (data / name for name in BELOW):
        if (folder / TABLE).is_file():
            return read_table(folder / TABLE), "", ()
        if path := _only(folder, *KARPATHY):
            return read_karpathy(path), "", ()
        if _matching(folder, COCO_TRAIN, COCO_VALID):
            return _coco(folder)
        if path := _only(folder, *TOKENS):
            return read_token_file(path, find_lists(folder)), "", ()
    raise LayoutMissingError(folder=data, layouts=LAYOUTS)


def _read_file(data: Path) -> tuple[Found, str, tuple[str, ...]]:
    for pattern in (COCO_TRAIN, COCO_VALID):
        if data.match(pattern):
            return _coco(data.parent, year=data.stem.removeprefix(pattern.partition("*")[0]))
    if any(data.match(pattern) for pattern in TOKENS):
        return read_token_file(data, find_lists(data.parent)), "", ()
    return (read_table(data) if data.suffix == ".tsv" else read_karpathy(data)), "", ()


def _matching(folder: Path, *patterns: str) -> list[Path]:
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in found if not path.match(LEMMAS))


def _only(folder: Path, *patterns: str) -> Path | None:
    """The file that matches, if any does; to take one of several would be to guess."""
    found = _matching(folder, *patterns)
    if len(found) > 1:
        raise CaptionsAmbiguousError(folder=folder, found=[path.name for path in found])
    return found[0] if found else None


def _coco(folder: Path, year: str | None = None) -> tuple[Found, str, tuple[str, ...]]:
    """The training and the validation file; pictures lie in ``train2017`` and ``val2017``.

    Args:
        folder: of the two, one of which may be missing.
        year: of the file that was named: the other one is that of the same year if there is one.
    """
    found: Found = {}
    train, valid = _of_year(folder, COCO_TRAIN, year), _of_year(folder, COCO_VALID, year)
    if train:
        found["train"] = read_coco(train)
    if valid:
        found["valid"] = read_coco(valid)
    check_names(picture for pictures in found.values() for picture in pictures)
    if valid:
        found["test"] = list(found["valid"])
    names = (path.stem.removeprefix("captions_") for path in (train, valid) if path)
    return found, COCO_NOTE, tuple(names)


def _of_year(folder: Path, pattern: str, year: str | None) -> Path | None:
    named = None if year is None else folder / pattern.replace("*", year)
    return named if named is not None and named.is_file() else _only(folder, pattern)
