"""A data set of captioned images: which layout its folder has, and where its images are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

from embshare.tasks.captioning.layouts import (
    SPLITS,
    CaptionedImage,
    Found,
    Split,
    check_names,
    read_coco,
    read_flickr,
    read_karpathy,
    read_table,
)
from embshare.tasks.errors import DataError, MissingDataError

__all__ = ["SPLITS", "CaptionSet", "CaptionedImage", "Split", "load_folder"]


@dataclass(frozen=True)
class CaptionSet:
    """A data set of captioned images."""

    name: str
    """Where it came from, for a report."""
    splits: Mapping[Split, tuple[CaptionedImage, ...]]
    note: str = ""
    """What a reader of results should know of the splits."""

    def images(self, split: Split) -> tuple[CaptionedImage, ...]:
        """Those of one split, which may be none."""
        return self.splits.get(split, ())

    def fingerprint(self) -> str:
        """Digest of all names and captions in order, which tells apart data sets of one name."""
        digest = blake2b(digest_size=8)
        for split in SPLITS:
            for image in self.images(split):
                digest.update("\0".join((split, image.name, *image.captions)).encode())
        return digest.hexdigest()


TABLE: Final = "captions.tsv"
KARPATHY: Final = ("dataset_*.json", "dataset.json")
COCO_TRAIN: Final = "captions_train*.json"
COCO_VALID: Final = "captions_val*.json"
FLICKR: Final = ("*.token.txt", "*.token")
LEMMAS: Final = "*.lemma.*"  # of Flickr8k's archive: read only where that file itself is named
LAYOUTS: Final = (TABLE, KARPATHY[0], f"{COCO_VALID} ({COCO_TRAIN})", f"{FLICKR[0]} (split lists)")
BELOW: Final = (".", "annotations", "text", "Flickr8k_text", "karpathy")
COCO_NOTE: Final = (
    "COCO's test captions are not published: `test` is `valid`, the file captions_val. For a test "
    "split of its own use Karpathy's dataset_coco.json"
)
IMAGES: Final = (
    *(".", "images", "Images", "flickr30k-images", "flickr30k_images"),
    *("Flicker8k_Dataset", "Flickr8k_Dataset"),  # the first as the published archive spells it
)


def load_folder(
    data: Path, images: Path | None = None, *, needed: Sequence[Split] = SPLITS
) -> CaptionSet:
    """Read the captions in a folder, and find their images; none is opened.

    Args:
        data: the folder, or the file of captions in it.
        images: where the images are, if not in one of the usual places.
        needed: splits; others are left out, and their images need not be there.
    Raises:
        MissingDataError: there are no captions in a known layout, a split is empty, or an image is
            not there.
        DataError: a file is not as its layout has it, or one of several would have to be guessed.
    """
    splits, note, more = _read(data)
    for split in needed:
        if not splits.get(split):
            given = [f"{len(rows):,} for {name}" for name, rows in splits.items() if rows]
            raise MissingDataError(
                data,
                needs=f"give images with captions for the split `{split}`",
                has=f"gives {', '.join(given) or 'none'}",
                hint="Fetch the files again, or name another folder.",
            )
    folders = _image_folders(data.parent if data.is_file() else data, images, more)
    every = iter(_locate([row for split in needed for row in splits[split]], folders))
    found = {split: tuple(next(every) for _ in splits[split]) for split in needed}
    return CaptionSet(str(data), found, note)


def _read(data: Path) -> tuple[Found, str, tuple[str, ...]]:
    """Splits, a note, and folders that images of this layout may be in."""
    if data.is_file():
        return _read_file(data)
    for folder in (data / name for name in BELOW):
        if (folder / TABLE).is_file():
            return read_table(folder / TABLE), "", ()
        if path := _only(folder, *KARPATHY):
            return read_karpathy(path), "", ()
        if _matching(folder, COCO_TRAIN, COCO_VALID):
            return _read_coco_folder(folder)
        if path := _only(folder, *FLICKR):
            return read_flickr(path), "", ()
    has = "is not a folder"
    if data.is_dir():
        has = f"holds {', '.join(sorted(p.name for p in data.iterdir())[:8]) or 'nothing'}"
    raise MissingDataError(
        data,
        needs=f"be a folder with one of {', '.join(LAYOUTS)}",
        has=has,
        hint="Name the folder of a data set in one of these layouts, or leave `data` out to use "
        "drawn scenes.",
    )


def _read_file(data: Path) -> tuple[Found, str, tuple[str, ...]]:
    for pattern in (COCO_TRAIN, COCO_VALID):
        if data.match(pattern):
            year = data.stem.removeprefix(pattern.partition("*")[0])
            return _read_coco_folder(data.parent, year)
    if any(data.match(pattern) for pattern in FLICKR):
        return read_flickr(data), "", ()
    return (read_table(data) if data.suffix == ".tsv" else read_karpathy(data)), "", ()


def _matching(folder: Path, *patterns: str) -> list[Path]:
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in found if not path.match(LEMMAS))


def _only(folder: Path, *patterns: str) -> Path | None:
    """The file that matches, if any does; to take one of several would be to guess."""
    found = _matching(folder, *patterns)
    if len(found) > 1:
        raise DataError(
            folder,
            needs="hold one file of captions in this layout",
            has=f"holds {', '.join(path.name for path in found)}",
            hint="Name the one that is meant: `data` may be the file itself.",
        )
    return found[0] if found else None


def _image_folders(root: Path, images: Path | None, more: Iterable[str]) -> list[Path]:
    """The folder that was named, or the usual ones in that of the captions and above it."""
    if images is not None:
        paths = [images, *(images / name for name in more)]
    else:
        paths = [at / name for at in (root, root.parent) for name in (*IMAGES, *more)]
    return list(dict.fromkeys(path for path in paths if path.is_dir())) or [root]


def _locate(images: Sequence[CaptionedImage], folders: Sequence[Path]) -> list[CaptionedImage]:
    """Give each image its file; its name may carry a folder."""

    @cache  # to list a folder once is quick where it is far away
    def names(folder: Path) -> frozenset[str]:
        return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()

    def find(name: str) -> Path | None:
        below, _, file = name.rpartition("/")
        places = (folder / sub for sub in dict.fromkeys((below, "")) for folder in folders)
        return next((place / file for place in places if file in names(place)), None)

    found = [replace(image, path=find(image.name)) for image in images]
    missing = [image for image in found if image.path is None]
    if missing:
        looked = ", ".join(f"`{folder}`" for folder in folders)
        raise MissingDataError(
            *missing[0].place,
            needs="name an image that is there",
            has=f"`{missing[0].name}` is in none of {looked}; in all {len(missing):,} of "
            f"{len(found):,} images are missing",
            hint="Put them there, or name their folder as `images`.",
        )
    first: dict[Path | None, CaptionedImage] = {}
    for image in found:
        if (other := first.setdefault(image.path, image)).name != image.name:
            raise DataError(
                *image.place,
                needs=f"name a file of its own as `{image.name}`",
                has=f"that and `{other.name}` are both found as `{image.path}` alone",
                hint="Put each image into the folder of its name, or name the folder that these "
                "are in as `images`.",
            )
    return found


def _read_coco_folder(folder: Path, year: str | None = None) -> tuple[Found, str, tuple[str, ...]]:
    """The training and the validation file; images lie in ``train2017`` and ``val2017``.

    Args:
        folder: of the two, one of which may be missing.
        year: of the file that was named: the other one is that of the same year if there is one.
    """

    def of_year(pattern: str) -> Path | None:
        named = None if year is None else folder / pattern.replace("*", year)
        return named if named is not None and named.is_file() else _only(folder, pattern)

    found: Found = {}
    train, valid = of_year(COCO_TRAIN), of_year(COCO_VALID)
    if train:
        found["train"] = read_coco(train)
    if valid:
        found["valid"] = read_coco(valid)
    check_names(image for images in found.values() for image in images)
    if valid:
        found["test"] = list(found["valid"])
    names = (path.stem.removeprefix("captions_") for path in (train, valid) if path)
    return found, COCO_NOTE, tuple(names)
