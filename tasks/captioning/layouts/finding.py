"""Which layout a folder has, and its data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from embshare.tasks.captioning.dataset import SPLITS, CaptionSet, Picture, Split
from embshare.tasks.captioning.errors import LayoutMissingError
from embshare.tasks.captioning.layouts.coco import read_coco
from embshare.tasks.captioning.layouts.karpathy import read_karpathy
from embshare.tasks.captioning.layouts.pictures import PictureFolders, collect
from embshare.tasks.captioning.layouts.table import read_table
from embshare.tasks.captioning.layouts.tokens import find_lists, read_token_file

__all__ = ["LAYOUTS", "load_folder"]

TABLE: Final = "captions.tsv"
KARPATHY: Final = ("dataset_*.json", "dataset.json")
COCO_TRAIN: Final = "captions_train*.json"
COCO_VALID: Final = "captions_val*.json"
TOKENS: Final = ("*.token.txt", "*.token")
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
        data: the folder, or the JSON file of one of its layouts.
        images: where the pictures are, if not in one of the usual places.
        needed: splits; others are left out, and their pictures need not be there.
    Raises:
        LayoutMissingError: it holds no captions in a known layout.
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
        if data.match(COCO_VALID) or data.match(COCO_TRAIN):
            return _coco(data.parent)
        if any(data.match(pattern) for pattern in TOKENS):
            return read_token_file(data, find_lists(data.parent)), "", ()
        return (read_table(data) if data.suffix == ".tsv" else read_karpathy(data)), "", ()
    for folder in (data / name for name in BELOW):
        if (folder / TABLE).is_file():
            return read_table(folder / TABLE), "", ()
        if path := _first(folder, *KARPATHY):
            return read_karpathy(path), "", ()
        if _first(folder, COCO_VALID, COCO_TRAIN):
            return _coco(folder)
        if path := _first(folder, *TOKENS):
            return read_token_file(path, find_lists(folder)), "", ()
    raise LayoutMissingError(folder=data, layouts=LAYOUTS)


def _first(folder: Path, *patterns: str) -> Path | None:
    return next((path for pattern in patterns for path in sorted(folder.glob(pattern))), None)


def _coco(folder: Path) -> tuple[Found, str, tuple[str, ...]]:
    """The training and the validation file; pictures lie in ``train2017`` and ``val2017``."""
    found: Found = {}
    paths = {"train": _first(folder, COCO_TRAIN), "valid": _first(folder, COCO_VALID)}
    if paths["train"]:
        found["train"] = read_coco(paths["train"])
    if paths["valid"]:
        found["valid"] = read_coco(paths["valid"])
        found["test"] = list(found["valid"])
    names = (path.stem.removeprefix("captions_") for path in paths.values() if path)
    return found, COCO_NOTE, tuple(names)
