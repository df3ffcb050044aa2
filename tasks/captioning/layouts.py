"""The layouts that captioned images are published in; what is wrong has a file and a line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, Field, StrictInt, ValidationError

from embshare.tasks.errors import DataError, MissingDataError, Place

__all__ = [
    "SPLITS",
    "CaptionedImage",
    "Found",
    "Split",
    "check_names",
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
    """As the captions' file has it, or a number."""
    captions: tuple[str, ...]
    """One or more, as they were written."""
    path: Path | None
    """``None`` for an image that is drawn."""
    place: Place
    """File and line that name it."""
    image_id: int | str | None = None
    """Identifier in COCO's annotations, where the layout has it."""


Found = dict[Split, list[CaptionedImage]]


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
        DataError: a field is missing or of another kind, or an image stands in two entries.
    """
    found: Found = {}
    for index, row in enumerate(_read_json(path, _Karpathy).images):
        place = Place(path, f"images[{index}]")
        name = f"{row.filepath}/{row.filename}" if row.filepath else row.filename
        captions = tuple(sentence.raw for sentence in row.sentences)
        image = CaptionedImage(name, captions, None, place, row.cocoid)
        found.setdefault(_split(row.split, place), []).append(image)
    check_names(image for images in found.values() for image in images)
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
            raise wrong(place, "have an `id` of its own", f"has that of {other}, {image.id!r:.40}")
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


def check_names(images: Iterable[CaptionedImage]) -> None:
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
