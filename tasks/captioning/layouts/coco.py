"""COCO's own annotations: ``captions_train2017.json`` and ``captions_val2017.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embshare.tasks.captioning.dataset import Picture
from embshare.tasks.captioning.errors import CaptionFileError
from embshare.tasks.captioning.layouts.reading import check_caption, entries, read_json

__all__ = ["read_coco"]


def read_coco(path: Path) -> list[Picture]:
    """Read ``images`` (``id``, ``file_name``) and ``annotations`` (``image_id``, ``caption``).

    Raises:
        CaptionFileError: a field is missing, two images have one identifier, an annotation is of no
            image, or an image has no annotation; with file and entry.
    """
    found = read_json(path)
    names: dict[Any, tuple[str, dict[str, Any]]] = {}
    for place, row in entries(path, found, "images"):
        other, _ = names.setdefault(_field(row, "id", place), (place, row))
        if other != place:
            finding = f"has that of {other.rstrip(',')}, {row['id']!r:.40}"
            raise _wrong(place, "have an `id` of its own", finding)
    captions: dict[Any, list[str]] = {}
    for place, row in entries(path, found, "annotations"):
        image = _field(row, "image_id", place)
        if image not in names:
            raise _wrong(place, "be of an image in `images`", f"is of {image!r:.40}")
        captions.setdefault(image, []).append(check_caption(row.get("caption"), place))
    pictures: list[Picture] = []
    for image, (place, row) in names.items():
        if image not in captions:
            raise _wrong(place, "have an annotation with a caption", "has none")
        name = str(_field(row, "file_name", place))
        pictures.append(Picture(name, tuple(captions[image]), None, place, image))
    return pictures


def _field(row: dict[str, Any], name: str, place: str) -> Any:
    if not isinstance(row.get(name), str | int):
        raise _wrong(place, f"have a field `{name}`", f"has {', '.join(row) or 'none'}")
    return row[name]


def _wrong(place: str, needs: str, finding: str) -> CaptionFileError:
    return CaptionFileError(
        place=place, needs=needs, finding=finding, way_out="Fetch the file again."
    )
