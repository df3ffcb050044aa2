"""What a person may want to see of an evaluation: pictures with what was and should be said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from embshare.tasks.captioning.dataset import Picture
from embshare.tasks.captioning.pictures.decoding import Pixels
from embshare.tasks.running.folder import write_text

__all__ = ["SHOWN", "write_samples"]

SHOWN: Final = 24
LEAST_SIDE: Final = 96  # of a thumbnail: smaller pictures are shown larger


def write_samples(
    folder: Path,
    pictures: Sequence[Picture],
    pixels: Pixels,
    written: Sequence[str],
    cider: Sequence[float],
    scores: Mapping[str, object],
) -> None:
    """Write ``samples.json`` with thumbnails, ``predictions.json`` and ``scores.json``.

    Args:
        folder: is there.
        pictures: that were described.
        pixels: of the first `SHOWN` of them at least, ``[N, S, S, 3]``.
        written: a caption for each.
        cider: of each, for ``predictions.json``, which is as COCO's evaluation reads results where
            pictures have COCO's identifiers; elsewhere ``image_id`` is the picture's name.
        scores: what was computed, by which words, and what was left out and why.
    """
    thumbnails = folder / "pictures"
    thumbnails.mkdir(exist_ok=True)
    samples = []
    for index, picture in enumerate(pictures[:SHOWN]):
        name = f"{index:03}.png"
        _thumbnail(pixels[index], thumbnails / name)
        samples.append(
            {
                "image": f"pictures/{name}",
                "source": picture.name,
                "prediction": written[index],
                "references": " | ".join(picture.captions),
            }
        )
    results = [
        {"image_id": _identity(picture), "caption": caption, "cider": round(value, 6)}
        for picture, caption, value in zip(pictures, written, cider, strict=True)
    ]
    for name, found in (("samples", samples), ("predictions", results), ("scores", dict(scores))):
        text = json.dumps(found, indent=1, ensure_ascii=False)
        write_text(folder / f"{name}.json", text)


def _identity(picture: Picture) -> int | str:
    return picture.name if picture.image_id is None else picture.image_id


def _thumbnail(pixels: Pixels, path: Path) -> None:
    from PIL import Image

    image = Image.fromarray(pixels)
    if (times := -(-LEAST_SIDE // image.width)) > 1:
        image = image.resize((times * image.width,) * 2, Image.Resampling.NEAREST)
    image.save(path)
