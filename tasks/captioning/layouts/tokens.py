"""Flickr8k and Flickr30k as first published: lines ``name#number<tab>caption``, and split lists."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from embshare.tasks.captioning.dataset import SPLITS, Picture, Split
from embshare.tasks.captioning.errors import CaptionFileError
from embshare.tasks.captioning.layouts.reading import check_caption, place_of, read_lines

__all__ = ["LISTS", "find_lists", "read_token_file"]

LISTS: Final[dict[Split, tuple[str, ...]]] = {
    "train": ("*trainImages.txt", "*_train.txt", "train.txt"),
    "valid": ("*devImages.txt", "*_val.txt", "val.txt", "dev.txt"),
    "test": ("*testImages.txt", "*_test.txt", "test.txt"),
}
"""The names of lists, each with a picture's name on every line."""


def find_lists(folder: Path) -> dict[Split, Path]:
    """The split lists in a folder.

    Raises:
        CaptionFileError: one is missing.
    """
    found: dict[Split, Path] = {}
    for split in SPLITS:
        for pattern in LISTS[split]:
            if paths := sorted(folder.glob(pattern)):
                found[split] = paths[0]
                break
        else:
            raise CaptionFileError(
                place=f"`{folder}`",
                needs=f"have a list of the split `{split}` ({' or '.join(LISTS[split])})",
                finding="has none",
                way_out="Put it beside the captions: a picture's name on each line.",
            )
    return found


def read_token_file(path: Path, lists: dict[Split, Path]) -> dict[Split, list[Picture]]:
    """Read captions, and deal their pictures out by the lists.

    Pictures that are in no list are left out: in Flickr8k there are some, one of which
    (``2258277193_586949ec62.jpg.1``) was never published.

    Raises:
        CaptionFileError: a line is not of this form, a list names a picture without captions, or
            two lists name the same one; with file and line.
    """
    captions: dict[str, list[str]] = {}
    for number, line in read_lines(path):
        name, caption = _cells(line, place_of(path, number))
        captions.setdefault(name, []).append(caption)
    found: dict[Split, list[Picture]] = {}
    seen: dict[str, Split] = {}
    for split, listed in lists.items():
        for number, line in read_lines(listed):
            name, place = line.strip(), place_of(listed, number)
            name = name if name in captions or "." in name else f"{name}.jpg"
            _check_listed(name, split, place, captions, seen)
            found.setdefault(split, []).append(Picture(name, tuple(captions[name]), None, place))
    return found


def _check_listed(
    name: str,
    split: Split,
    place: str,
    captions: dict[str, list[str]],
    seen: dict[str, Split],
) -> None:
    if name not in captions:
        finding = f"names `{name}`, which has none"
    elif name in seen:
        finding = f"names `{name}`, which the list of the split `{seen[name]}` names too"
    else:
        seen[name] = split
        return
    raise CaptionFileError(
        place=place,
        needs="name a picture with captions, once",
        finding=finding,
        way_out="Remove the line, or fetch the lists and the captions again.",
    )


def _cells(line: str, place: str) -> tuple[str, str]:
    cells = line.split("\t")
    name, mark, number = cells[0].rpartition("#")
    if len(cells) != 2 or not mark or not number.strip().isdigit():
        raise CaptionFileError(
            place=place,
            needs="be NAME#NUMBER, one tab and a caption",
            finding=f"has {len(cells)} column{'s' * (len(cells) != 1)} and begins {cells[0]!r:.50}",
            way_out="Correct the line, or fetch the file again.",
        )
    return name, check_caption(cells[1], place)
