"""Karpathy's splits of Flickr8k, Flickr30k and COCO: ``dataset_flickr8k.json`` and its sisters.

Source:
    Karpathy & Fei-Fei 2015, "Deep Visual-Semantic Alignments for Generating Image Descriptions".
"""

from __future__ import annotations

from pathlib import Path

from embshare.tasks.captioning.dataset import Picture, Split
from embshare.tasks.captioning.errors import CaptionFileError
from embshare.tasks.captioning.layouts.reading import (
    check_caption,
    check_names,
    entries,
    read_json,
)
from embshare.tasks.captioning.layouts.table import split_named

__all__ = ["read_karpathy"]


def read_karpathy(path: Path) -> dict[Split, list[Picture]]:
    """Read ``images``, each with ``filename``, ``split`` and ``sentences``; ``restval`` trains.

    Raises:
        CaptionFileError: a field is missing or of another kind, or a picture stands in two entries;
            with file and entry.
    """
    found: dict[Split, list[Picture]] = {}
    for place, row in entries(path, read_json(path), "images"):
        name, below = row.get("filename"), row.get("filepath", "")
        if not isinstance(name, str) or not isinstance(below, str):
            raise _wrong(place, "name a picture (`filename`)", name)
        sentences = row.get("sentences")
        if not isinstance(sentences, list) or not sentences:
            raise _wrong(place, "have one or more `sentences`", sentences)
        captions = tuple(
            check_caption(sentence.get("raw") if isinstance(sentence, dict) else None, place)
            for sentence in sentences
        )
        number = row.get("cocoid")  # of COCO alone; the sisters of Flickr have none
        if number is not None and type(number) is not int:
            raise _wrong(place, "have a whole number as `cocoid`, or none", number)
        split = split_named(row.get("split"), place)
        whole = f"{below}/{name}" if below else name
        found.setdefault(split, []).append(Picture(whole, captions, None, place, number))
    check_names(picture for pictures in found.values() for picture in pictures)
    return found


def _wrong(place: str, needs: str, has: object) -> CaptionFileError:
    return CaptionFileError(
        place=place, needs=needs, finding=f"has {has!r:.40}", way_out="Fetch the file again."
    )
