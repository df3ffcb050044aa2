"""Scenes drawn with Pillow and described by a grammar: data that any machine has.

They are the same on every machine: a change of any random draw here is another data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import numpy as np

from embshare.errors import MissingPackageError
from embshare.tasks.captioning.data import CaptionedImage, CaptionSet, Split
from embshare.tasks.captioning.images import Pixels
from embshare.tasks.errors import Place

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageDraw import ImageDraw

__all__ = [
    "COLOURS",
    "GROUNDS",
    "SHAPES",
    "SIDE",
    "SIZES",
    "Scene",
    "Thing",
    "describe",
    "draw",
    "draw_split",
    "imagine",
    "scenes_of",
    "scenes_set",
]

SIDE: Final = 2
"""Cells along a side of a scene, which is a square."""
COLOURS: Final = {
    "red": (214, 39, 40),
    "orange": (255, 140, 26),
    "yellow": (240, 215, 30),
    "green": (44, 150, 60),
    "blue": (40, 80, 210),
    "purple": (140, 60, 190),
    "brown": (120, 75, 50),
    "black": (25, 25, 25),
}
GROUNDS: Final = {"white": (245, 245, 245), "grey": (170, 170, 170), "pink": (250, 205, 215)}
SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "bar")
LOOKS: Final = ("", "", "striped", "dotted")
SIZE_WORDS: Final = {"large": ("large", "big"), "small": ("small", "little", "tiny")}
ROWS: Final = ("top", "bottom")
COLUMNS: Final = ("left", "right")
REFERENCES: Final = 5


@dataclass(frozen=True)
class Thing:
    """One shape of a scene."""

    shape: str
    colour: str
    size: str
    look: str
    row: int
    column: int


@dataclass(frozen=True)
class Scene:
    """One or two things, each in its own cell, on a ground."""

    ground: str
    things: tuple[Thing, ...]


def imagine(random: Random) -> Scene:
    """A scene at random."""
    cells = random.sample(range(SIDE * SIDE), random.choice((1, 2, 2)))
    return Scene(random.choice(list(GROUNDS)), tuple(_thing(cell, random) for cell in cells))


def _thing(cell: int, random: Random) -> Thing:
    return Thing(
        shape=random.choice(SHAPES),
        colour=random.choice(list(COLOURS)),
        size=random.choice(list(SIZE_WORDS)),
        look=random.choice(LOOKS),
        row=cell // SIDE,
        column=cell % SIDE,
    )


def describe(scene: Scene, random: Random) -> tuple[str, ...]:
    """Five sentences, as different people would say them; all are true."""
    return tuple(_sentence(scene, random) for _ in range(REFERENCES))


def _sentence(scene: Scene, random: Random) -> str:
    things = random.sample(scene.things, len(scene.things))
    named = [_name(thing, random) for thing in things]
    if len(things) == 1:
        what = f"{named[0]} {_place(things[0], random)}"
    elif random.random() < 0.7:
        what = f"{named[0]} {_relation(things[0], things[1])} {named[1]}"
    else:
        what = " and ".join(named)
    ground = scene.ground
    return random.choice(
        (what, what, what, f"{what} on a {ground} background", f"a {ground} picture with {what}")
    )


def _name(thing: Thing, random: Random) -> str:
    look = thing.look if random.random() < 0.8 else ""
    words = ("a", random.choice(SIZE_WORDS[thing.size]), look, thing.colour, thing.shape)
    return " ".join(word for word in words if word)


def _place(thing: Thing, random: Random) -> str:
    row, column = ROWS[thing.row], COLUMNS[thing.column]
    return random.choice((f"at the {row} {column}", f"in the {row} {column} corner"))


def _relation(one: Thing, other: Thing) -> str:
    if one.column != other.column:
        return "to the left of" if one.column < other.column else "to the right of"
    return "above" if one.row < other.row else "below"


FINER: Final = 3  # drawn this much larger, then averaged
REACH: Final = {"large": 0.46, "small": 0.28}  # half of a thing's size, in cells


def draw(scene: Scene, size: int) -> Image.Image:
    """The image of a scene, square.

    Raises:
        MissingPackageError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="pillow", extra="captioning") from error
    canvas = Image.new("RGB", (size * FINER, size * FINER), GROUNDS[scene.ground])
    for thing in scene.things:
        mask = Image.new("L", canvas.size)
        _outline(ImageDraw.Draw(mask), thing, canvas.width / SIDE)
        _decorate(ImageDraw.Draw(mask), thing, canvas.width)
        canvas.paste(COLOURS[thing.colour], (0, 0), mask)
    return canvas.reduce(FINER)


def _outline(pen: ImageDraw, thing: Thing, cell: float) -> None:
    """Fill the thing's shape."""
    x, y = (thing.column + 0.5) * cell, (thing.row + 0.5) * cell
    r = REACH[thing.size] * cell
    box = (x - r, y - r, x + r, y + r)
    match thing.shape:
        case "circle":
            pen.ellipse(box, fill=255)
        case "square":
            pen.rectangle(box, fill=255)
        case "ring":
            pen.ellipse(box, outline=255, width=max(1, round(0.45 * r)))
        case "cross":
            pen.rectangle((x - r, y - 0.3 * r, x + r, y + 0.3 * r), fill=255)
            pen.rectangle((x - 0.3 * r, y - r, x + 0.3 * r, y + r), fill=255)
        case "bar":
            pen.rectangle((x - r, y - 0.4 * r, x + r, y + 0.4 * r), fill=255)
        case "triangle":
            pen.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=255)
        case "diamond":
            pen.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=255)
        case "star":
            pen.polygon(_star(x, y, r), fill=255)


def _star(x: float, y: float, r: float) -> list[tuple[float, float]]:
    reach = (r if corner % 2 == 0 else 0.4 * r for corner in range(10))
    turns = (math.pi * corner / 5 for corner in range(10))
    return [(x + a * math.sin(t), y - a * math.cos(t)) for a, t in zip(reach, turns, strict=True)]


def _decorate(pen: ImageDraw, thing: Thing, size: int) -> None:
    """Cut stripes or dots out of what was filled."""
    step = max(6, size // 16)
    if thing.look == "striped":
        for y in range(0, size, step):
            pen.rectangle((0, y, size, y + step // 3), fill=0)
    elif thing.look == "dotted":
        for index in range((size // step) ** 2):
            x, y = step * (index % (size // step)), step * (index // (size // step))
            pen.ellipse((x, y, x + step // 2, y + step // 2), fill=0)


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
    """All splits; images are drawn by `draw_split`."""
    splits = {
        split: tuple(
            CaptionedImage(f"{split}-{index:04}", captions, None, Place(Path(split), index))
            for index, (_, captions) in enumerate(scenes_of(split))
        )
        for split in SIZES
    }
    return CaptionSet("drawn scenes", splits)


def draw_split(split: Split, size: int) -> Pixels:
    """The images of a split, ``[N, size, size, 3]``."""
    return np.stack([np.asarray(draw(scene, size)) for scene, _ in scenes_of(split)])
