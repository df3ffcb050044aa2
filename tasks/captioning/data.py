"""Captioned images in the layouts that they are published in; what is wrong has file and line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, Field, StrictInt, ValidationError

from embshare.tasks.errors import DataError, MissingDataError, Place

__all__ = [
    "SPLITS",
    "CaptionSet",
    "CaptionedImage",
    "Split",
    "load_folder",
    "read_coco",
    "read_flickr",
    "read_karpathy",
    "read_table",
]

Split = Literal["train", "valid", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)
AGAIN: Final = "Fetch the file again."


@dataclass(frozen=True)
class CaptionedImage:
    """An image and its captions."""

    name: str
    """Name in the file of captions."""
    captions: tuple[str, ...]
    """Captions as they were written, one or more."""
    path: Path | None
    """Image file; ``None`` for an image that is drawn."""
    place: Place
    """File and line that name it."""
    image_id: int | str | None = None
    """Identifier in COCO's annotations, where the layout has it."""


Found = dict[Split, list[CaptionedImage]]


@dataclass(frozen=True)
class CaptionSet:
    """A data set of captioned images."""

    name: str
    """Source, for a report."""
    splits: Mapping[Split, tuple[CaptionedImage, ...]]
    note: str = ""
    """Note on the splits, for readers of results."""

    def images(self, split: Split) -> tuple[CaptionedImage, ...]:
        """Images of one split; empty if there are none."""
        return self.splits.get(split, ())

    def fingerprint(self) -> str:
        """Digest of all names and captions in order, which tells apart data sets of one name."""
        digest = blake2b(digest_size=8)
        for split in SPLITS:
            for image in self.images(split):
                digest.update("\0".join((split, image.name, *image.captions)).encode())
        return digest.hexdigest()


# --- A folder: which layout it has, and where its images are --------------------------------------

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
    "separate split use Karpathy's dataset_coco.json"
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
                needs=f"find a file for `{image.name}` alone",
                has=f"that and `{other.name}` are both found as `{image.path}`",
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
    _check_names(image for images in found.values() for image in images)
    if valid:
        found["test"] = list(found["valid"])
    names = (path.stem.removeprefix("captions_") for path in (train, valid) if path)
    return found, COCO_NOTE, tuple(names)


# --- One table: image, split, caption -----------------------------------------------------------

COLUMNS: Final = ("image", "split", "caption")
SPLIT_NAMES: Final[dict[str, Split]] = {
    "train": "train",
    "restval": "train",  # what Karpathy's splits of COCO add to the training set
    **dict.fromkeys(("dev", "val", "valid", "validation"), "valid"),
    "test": "test",
}


def read_table(path: Path) -> Found:
    """Tab-separated lines under a header; other columns than `COLUMNS` are ignored."""
    lines = _lines(path)
    place, header = next(lines, (Place(path, 1), ""))
    columns = header.split("\t")
    if not set(COLUMNS) <= set(columns):
        raise DataError(
            *place,
            needs=f"be a header with the columns {', '.join(COLUMNS)} between tabs",
            has=f"is {header!r:.60}",
            hint="Add the header, or name a folder in another layout.",
        )
    at = [columns.index(name) for name in COLUMNS]
    rows: dict[str, tuple[Split, Place, list[str]]] = {}
    for place, line in lines:
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise DataError(
                *place,
                needs=f"have {len(columns)} columns between tabs, as the header has",
                has=f"has {len(cells)}",
                hint="Correct the line; a caption cannot hold a tab.",
            )
        name, split, caption = (cells[index] for index in at)
        row = rows.setdefault(name, (_split(split, place), place, []))
        if row[0] != (of := _split(split, place)):
            raise DataError(
                *place,
                needs=f"leave `{name}` in the split `{row[0]}`",
                has=f"puts it into `{of}`",
                hint="An image is in one split: correct the line.",
            )
        row[2].append(_caption(caption, place))
    found: Found = {}
    for name, (of, place, captions) in rows.items():
        found.setdefault(of, []).append(CaptionedImage(name, tuple(captions), None, place))
    return found


def _split(name: str, place: Place) -> Split:
    if name not in SPLIT_NAMES:
        raise DataError(
            *place,
            needs=f"name a split ({', '.join(SPLIT_NAMES)})",
            has=f"has {name!r:.40} there",
            hint="Correct it, or fetch the file again.",
        )
    return SPLIT_NAMES[name]


# --- JSON: Karpathy's splits (Karpathy & Fei-Fei 2015), and COCO's own annotations --------------


def _words(caption: str) -> str:
    """A caption with single spaces."""
    if not any(letter.isalnum() for letter in caption):
        raise ValueError("must have words")
    return " ".join(caption.split())


Caption = Annotated[str, AfterValidator(_words)]


class _Sentence(BaseModel):
    raw: Caption


class _KarpathyImage(BaseModel):
    filename: str
    filepath: str = ""
    split: str
    sentences: Annotated[list[_Sentence], Field(min_length=1)]
    cocoid: StrictInt | None = None  # of COCO alone; the files of Flickr have none


class _Karpathy(BaseModel):
    images: list[_KarpathyImage]


class _CocoImage(BaseModel):
    id: int | str
    file_name: str


class _CocoAnnotation(BaseModel):
    image_id: int | str
    caption: Caption


class _Coco(BaseModel):
    images: list[_CocoImage]
    annotations: list[_CocoAnnotation]


def read_karpathy(path: Path) -> Found:
    """``images``, each with ``filename``, ``split`` and ``sentences``; ``restval`` trains.

    Raises:
        DataError: a field is missing or of another kind, or an image is in two entries.
    """
    found: Found = {}
    for index, row in enumerate(_read_json(path, _Karpathy).images):
        place = Place(path, f"images[{index}]")
        name = f"{row.filepath}/{row.filename}" if row.filepath else row.filename
        captions = tuple(sentence.raw for sentence in row.sentences)
        image = CaptionedImage(name, captions, None, place, row.cocoid)
        found.setdefault(_split(row.split, place), []).append(image)
    _check_names(image for images in found.values() for image in images)
    return found


def read_coco(path: Path) -> list[CaptionedImage]:
    """``images`` (``id``, ``file_name``) and ``annotations`` (``image_id``, ``caption``).

    Raises:
        DataError: a field is missing, two images have one identifier, an annotation is of no image,
            or an image has no annotation.
    """

    def wrong(place: Place, needs: str, has: str) -> DataError:
        return DataError(*place, needs=needs, has=has, hint=AGAIN)

    whole = _read_json(path, _Coco)
    places: dict[int | str, Place] = {}
    for index, image in enumerate(whole.images):
        place = Place(path, f"images[{index}]")
        if (other := places.setdefault(image.id, place)) is not place:
            raise wrong(place, "have its own `id`", f"has that of {other}, {image.id!r:.40}")
    captions: dict[int | str, list[str]] = {}
    for index, row in enumerate(whole.annotations):
        if row.image_id not in places:
            place = Place(path, f"annotations[{index}]")
            raise wrong(place, "be of an image in `images`", f"is of {row.image_id!r:.40}")
        captions.setdefault(row.image_id, []).append(row.caption)
    for number, place in places.items():
        if number not in captions:
            raise wrong(place, "have an annotation with a caption", "has none")
    return [
        CaptionedImage(image.file_name, tuple(captions[image.id]), None, places[image.id], image.id)
        for image in whole.images
    ]


Read = TypeVar("Read", bound=BaseModel)


def _read_json(path: Path, kind: type[Read]) -> Read:
    try:
        return kind.model_validate(json.loads(_text(path)))
    except json.JSONDecodeError as error:
        raise DataError(
            path,
            error.lineno,
            needs="be JSON",
            has=f"is not from column {error.colno:,} on ({error.msg})",
            hint="Fetch the file again: it may have been cut off.",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, index, inner = first["loc"][:1], first["loc"][1:2], first["loc"][2:]
        field = f"`{'.'.join(map(str, inner))}`: " if inner else ""
        raise DataError(
            path,
            "".join(map(str, name)) + "".join(f"[{number}]" for number in index) or None,
            needs="be as its layout has it",
            has=f"{field}{first['msg']} ({first['input']!r:.40})",
            hint=AGAIN,
        ) from error


# --- Flickr8k and Flickr30k as first published --------------------------------------------------

LISTS: Final[dict[Split, tuple[str, ...]]] = {
    "train": ("*trainImages.txt", "*_train.txt", "train.txt"),
    "valid": ("*devImages.txt", "*_val.txt", "val.txt", "dev.txt"),
    "test": ("*testImages.txt", "*_test.txt", "test.txt"),
}


def read_flickr(path: Path) -> Found:
    """Lines ``name#number<tab>caption``, and for each split a list of names beside them.

    Images that are in no list are left out: in Flickr8k there are some, one of which
    (``2258277193_586949ec62.jpg.1``) was never published.
    """
    lists = {split: _list_of(split, path.parent) for split in SPLITS}
    captions: dict[str, list[str]] = {}
    for place, line in _lines(path):
        cells = line.split("\t")
        name, mark, number = cells[0].rpartition("#")
        if len(cells) != 2 or not mark or not number.strip().isdigit():
            raise DataError(
                *place,
                needs="be NAME#NUMBER, one tab and a caption",
                has=f"has {len(cells)} column{'s' * (len(cells) != 1)} and begins {cells[0]!r:.50}",
                hint="Correct the line, or fetch the file again.",
            )
        captions.setdefault(name, []).append(_caption(cells[1], place))
    found: Found = {}
    seen: dict[str, Split] = {}
    for split, listed in lists.items():
        for place, line in _lines(listed):
            name = line.strip()
            name = name if name in captions or "." in name else f"{name}.jpg"
            if name not in captions or name in seen:
                why = f"the list of the split `{seen.get(name)}` names too"
                raise DataError(
                    *place,
                    needs="name an image with captions, once",
                    has=f"names `{name}`, which {'has none' if name not in captions else why}",
                    hint="Remove the line, or fetch the lists and the captions again.",
                )
            seen[name] = split
            image = CaptionedImage(name, tuple(captions[name]), None, place)
            found.setdefault(split, []).append(image)
    return found


def _list_of(split: Split, folder: Path) -> Path:
    for pattern in LISTS[split]:
        if paths := sorted(folder.glob(pattern)):
            return paths[0]
    raise MissingDataError(
        folder,
        needs=f"have a list of the split `{split}` ({' or '.join(LISTS[split])})",
        has="has none",
        hint="Put it beside the captions: an image's name on each line.",
    )


# --- Text and JSON ------------------------------------------------------------------------------

OTHER_MARKS: Final = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def _text(path: Path) -> str:
    """A UTF-8 file, with Windows' line ends made ``\\n``, and no byte order mark."""

    def other_encoding(line: int, has: str, encoding: str) -> DataError:
        hint = f"Convert the file, for example with `iconv -f {encoding} -t utf-8`."
        return DataError(path, line, needs="be UTF-8", has=has, hint=hint)

    try:
        raw = path.read_bytes()
    except OSError as error:
        has, hint = f"cannot be read ({error.strerror})", "Fetch it, or name another folder."
        raise DataError(path, needs="be a file", has=has, hint=hint) from error
    for mark, encoding in OTHER_MARKS.items():
        if raw.startswith(mark):
            raise other_encoding(1, f"begins with the byte order mark of {encoding}", encoding)
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        has = f"has the byte 0x{raw[error.start]:02x} where no character can have it"
        raise other_encoding(raw.count(b"\n", 0, error.start) + 1, has, "latin1") from error
    if (found := text.find("\ufeff")) >= 0:
        raise DataError(
            path,
            text.count("\n", 0, found) + 1,
            needs="be text",
            has="has a byte order mark (U+FEFF) within it",
            hint="Remove it: it is left over where files were put together.",
        )
    return text


def _lines(path: Path) -> Iterator[tuple[Place, str]]:
    """Lines that are not empty, with their places."""
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield Place(path, number), line


def _check_names(images: Iterable[CaptionedImage]) -> None:
    """See to it that no image stands in two entries, and so perhaps in two splits."""
    first: dict[str, CaptionedImage] = {}
    for image in images:
        if (other := first.setdefault(image.name, image)) is not image:
            raise DataError(
                *image.place,
                needs="name an image that no other entry names",
                has=f"names `{image.name}`, as {other.place} does",
                hint="Remove one of the two, or fetch the file again.",
            )


def _caption(caption: str, place: Place) -> str:
    """A caption with single spaces."""
    try:
        return _words(caption)
    except ValueError as error:
        has, hint = f"has {caption!r:.40} there", "Complete it, or remove the line."
        raise DataError(*place, needs="have a caption", has=has, hint=hint) from error
