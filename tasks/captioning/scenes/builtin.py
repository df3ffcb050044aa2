"""The built-in data set: scenes and sentences, the same on every machine."""

from __future__ import annotations

from random import Random
from typing import Final

import numpy as np

from embshare.tasks.captioning.dataset import CaptionSet, Picture, Split
from embshare.tasks.captioning.pictures.decoding import Pixels
from embshare.tasks.captioning.scenes.drawing import draw
from embshare.tasks.captioning.scenes.grammar import Scene, describe, imagine

__all__ = ["SIZES", "draw_split", "scenes_of", "scenes_set"]

SIZES: Final[dict[Split, int]] = {"train": 2_000, "valid": 200, "test": 200}
SEEDS: Final[dict[Split, int]] = {"train": 1, "valid": 2, "test": 3}


def scenes_of(split: Split) -> list[tuple[Scene, tuple[str, ...]]]:
    """Each scene of a split with its captions."""
    random = Random(SEEDS[split])
    found = []
    for _ in range(SIZES[split]):
        scene = imagine(random)
        found.append((scene, describe(scene, random)))
    return found


def scenes_set() -> CaptionSet:
    """All splits; pictures are drawn by `draw_split`."""
    splits = {
        split: tuple(
            Picture(f"{split}-{index:04}", captions, None, f"scene {index} of {split}")
            for index, (_, captions) in enumerate(scenes_of(split))
        )
        for split in SIZES
    }
    return CaptionSet("drawn scenes", splits)


def draw_split(split: Split, size: int) -> Pixels:
    """The pictures of a split, ``[N, size, size, 3]``."""
    return np.stack([draw(scene, size) for scene, _ in scenes_of(split)])
