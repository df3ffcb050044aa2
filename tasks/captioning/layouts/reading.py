"""Text and JSON files, with what is wrong in them told by file and line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from embshare.tasks.captioning.dataset import Picture
from embshare.tasks.captioning.errors import CaptionFileError

__all__ = [
    "BOM",
    "check_caption",
    "check_names",
    "entries",
    "place_of",
    "read_json",
    "read_lines",
    "read_text",
]

BOM: Final = "\ufeff"
OTHER_MARKS: Final = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
CONVERT: Final = "Convert the file, for example with `iconv -f {} -t utf-8`."


def place_of(path: Path, line: int) -> str:
    """How an error names a line, from 1."""
    return f"`{path}`, line {line:,},"


def read_text(path: Path) -> str:
    """A UTF-8 file, with Windows' line ends made ``\\n``, and no byte order mark at its beginning.

    Raises:
        CaptionFileError: no such file; another encoding, with the line; or a byte order mark within
            the text, as files have that were put together.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CaptionFileError(
            place=f"`{path}`",
            needs="be a file",
            finding=f"cannot be read ({error.strerror})",
            way_out="Fetch it, or name another folder.",
        ) from error
    for mark, encoding in OTHER_MARKS.items():
        if raw.startswith(mark):
            raise _other_encoding(
                path, 1, f"begins with the byte order mark of {encoding}", encoding
            )
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        finding = f"has the byte 0x{raw[error.start]:02x} where no character can have it"
        raise _other_encoding(path, line, finding, "latin1") from error
    if (found := text.find(BOM)) >= 0:
        raise CaptionFileError(
            place=place_of(path, text.count("\n", 0, found) + 1),
            needs="be text",
            finding="has a byte order mark (U+FEFF) within it",
            way_out="Remove it: it is left over where files were put together.",
        )
    return text


def _other_encoding(path: Path, line: int, finding: str, encoding: str) -> CaptionFileError:
    return CaptionFileError(
        place=place_of(path, line),
        needs="be UTF-8",
        finding=finding,
        way_out=CONVERT.format(encoding),
    )


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers from 1.

    Raises:
        CaptionFileError: as `read_text`.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        CaptionFileError: as `read_text`; or no JSON, with the line; or another kind of value.
    """
    text = read_text(path)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise CaptionFileError(
            place=place_of(path, error.lineno),
            needs="be JSON",
            finding=f"is not from column {error.colno:,} on ({error.msg})",
            way_out="Fetch the file again: it may have been cut off.",
        ) from error
    if not isinstance(found, dict):
        raise _no_field(path, "hold an object", f"holds a {type(found).__name__}")
    return found


def entries(path: Path, found: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list in a JSON file, each with its place for errors.

    Raises:
        CaptionFileError: there is no such list, or it holds something else.
    """
    rows = found.get(name)
    if not isinstance(rows, list):
        raise _no_field(
            path, f"hold a list `{name}`", f"has the fields {', '.join(found) or 'none'}"
        )
    for index, row in enumerate(rows):
        place = f"`{path}`, `{name}[{index}]`,"
        if not isinstance(row, dict):
            raise CaptionFileError(
                place=place,
                needs="be an object",
                finding=f"is a {type(row).__name__}",
                way_out="Fetch the file again.",
            )
        yield place, row


def check_names(pictures: Iterable[Picture]) -> None:
    """See to it that no picture stands in two entries, and so perhaps in two splits.

    Raises:
        CaptionFileError: one does.
    """
    first: dict[str, Picture] = {}
    for picture in pictures:
        if (other := first.setdefault(picture.name, picture)) is not picture:
            raise CaptionFileError(
                place=picture.place,
                needs="name a picture that no other entry names",
                finding=f"names `{picture.name}`, as {other.place.rstrip(',')} does",
                way_out="Remove one of the two, or fetch the file again.",
            )


def _no_field(path: Path, needs: str, finding: str) -> CaptionFileError:
    return CaptionFileError(
        place=f"`{path}`", needs=needs, finding=finding, way_out="Fetch the file again."
    )


def check_caption(caption: object, place: str) -> str:
    """A caption with single spaces.

    Raises:
        CaptionFileError: it is no text, or has no words.
    """
    if not isinstance(caption, str) or not any(letter.isalnum() for letter in caption):
        raise CaptionFileError(
            place=place,
            needs="have a caption",
            finding=f"has {caption!r:.40} there",
            way_out="Complete it, or remove the line.",
        )
    return " ".join(caption.split())
