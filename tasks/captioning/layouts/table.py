"""One table of pictures, splits and captions: ``captions.tsv``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from embshare.tasks.captioning.dataset import Picture, Split
from embshare.tasks.captioning.errors import CaptionFileError
from embshare.tasks.captioning.layouts.reading import check_caption, place_of, read_lines

__all__ = ["read_table", "split_named"]

COLUMNS: Final = ("image", "split", "caption")
NAMES: Final[dict[str, Split]] = {
    "train": "train",
    "restval": "train",  # what Karpathy's splits of COCO add to the training side
    "dev": "valid",
    "val": "valid",
    "valid": "valid",
    "validation": "valid",
    "test": "test",
}


def split_named(name: object, place: str) -> Split:
    """The split that a file calls by one of the usual names.

    Raises:
        CaptionFileError: it is another name.
    """
    if not isinstance(name, str) or name not in NAMES:
        raise CaptionFileError(
            place=place,
            needs=f"name a split ({', '.join(NAMES)})",
            finding=f"has {name!r:.40} there",
            way_out="Correct it, or fetch the file again.",
        )
    return NAMES[name]


def read_table(path: Path) -> dict[Split, list[Picture]]:
    """Read tab-separated lines under a header with the columns image, split and caption.

    Other columns are ignored, and a picture has as many captions as it has lines.

    Raises:
        CaptionFileError: a column is missing, a line has another number of them, a split has an
            unknown name or changes within one picture; with file and line.
    """
    lines = read_lines(path)
    number, header = next(lines, (1, ""))
    columns = header.split("\t")
    if not set(COLUMNS) <= set(columns):
        raise CaptionFileError(
            place=place_of(path, number),
            needs=f"be a header with the columns {', '.join(COLUMNS)} between tabs",
            finding=f"is {header!r:.60}",
            way_out="Add the header, or name a folder in another layout.",
        )
    image, split, caption = (columns.index(name) for name in COLUMNS)
    rows: dict[str, tuple[Split, str, list[str]]] = {}
    for number, line in lines:
        place, cells = place_of(path, number), line.split("\t")
        if len(cells) != len(columns):
            raise CaptionFileError(
                place=place,
                needs=f"have {len(columns)} columns between tabs, as the header has",
                finding=f"has {len(cells)}",
                way_out="Correct the line; a caption cannot hold a tab.",
            )
        of = split_named(cells[split], place)
        row = rows.setdefault(cells[image], (of, place, []))
        if row[0] != of:
            raise CaptionFileError(
                place=place,
                needs=f"leave `{cells[image]}` in the split `{row[0]}`",
                finding=f"puts it into `{of}`",
                way_out="A picture is in one split: correct the line.",
            )
        row[2].append(check_caption(cells[caption], place))
    found: dict[Split, list[Picture]] = {}
    for name, (of, place, captions) in rows.items():
        found.setdefault(of, []).append(Picture(name, tuple(captions), None, place))
    return found
