"""A small data set of captioned images for tests, in every layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 50), "blue": (30, 60, 220)}
SPLITS = {"train": 12, "dev": 3, "test": 3}


def captioned() -> list[tuple[str, str, list[str]]]:
    """Name, split and captions."""
    found = []
    for split, count in SPLITS.items():
        for index in range(count):
            colour = list(COLOURS)[index % 3]
            captions = [f"A {colour} picture .", f"This is a very {colour} wall ."]
            found.append((f"{split}{index}.jpg", split, captions))
    return found


def paint(folder: Path, side: int = 40) -> Path:
    """Write all images as JPEG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, _, captions in captioned():
        colour = COLOURS[captions[0].split()[1]]
        Image.new("RGB", (side, side + 8), colour).save(folder / name, quality=90)
    return folder


def table(folder: Path, *, plain: bool = False) -> Path:
    """``captions.tsv``; plain captions are words alone, which need no tokenizer."""
    lines = ["image\tsplit\tn\tcaption"]
    for name, split, captions in captioned():
        if plain:
            captions = [caption.lower().removesuffix(" .") for caption in captions]
        lines += [f"{name}\t{split}\t{n}\t{caption}" for n, caption in enumerate(captions)]
    (folder / "captions.tsv").write_text("\n".join(lines) + "\n")
    return folder / "captions.tsv"


def flickr(folder: Path) -> Path:
    """``Flickr8k.token.txt`` and lists, with a caption of an image that was never published."""
    lines = ["2258277193_586949ec62.jpg.1#0\tA lost picture ."]
    for name, _, captions in captioned():
        lines += [f"{name}#{n}\t{caption}" for n, caption in enumerate(captions)]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    for split in SPLITS:
        names = [name for name, of, _ in captioned() if of == split]
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n")
    return folder / "Flickr8k.token.txt"


def karpathy(folder: Path) -> Path:
    """``dataset_coco.json``, with one of COCO's own splits."""
    names = {"train": "restval", "dev": "val", "test": "test"}
    rows = [
        {
            "filename": name,
            "split": names[split],
            "sentences": [{"raw": caption, "tokens": caption.split()} for caption in captions],
        }
        for name, split, captions in captioned()
    ]
    path = folder / "dataset_coco.json"
    path.write_text(json.dumps({"images": rows, "dataset": "coco"}))
    return path


def coco(folder: Path) -> Path:
    """COCO's own annotations of a training and a validation split."""
    for year_split, wanted in (("train2017", {"train"}), ("val2017", {"dev", "test"})):
        images, annotations = [], []
        for number, (name, split, captions) in enumerate(captioned()):
            if split in wanted:
                images.append({"id": number, "file_name": name})
                annotations += [{"image_id": number, "caption": text} for text in captions]
        found: dict[str, Any] = {"images": images, "annotations": annotations}
        (folder / f"captions_{year_split}.json").write_text(json.dumps(found))
    return folder / "captions_train2017.json"


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "table": table,
    "flickr": flickr,
    "karpathy": karpathy,
    "coco": coco,
}
