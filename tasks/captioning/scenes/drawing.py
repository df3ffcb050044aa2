"""A scene as pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from embshare.errors import MissingPackageError
from embshare.tasks.captioning.pictures.decoding import Pixels
from embshare.tasks.captioning.scenes.grammar import COLOURS, GROUNDS, SIDE, Scene, Thing

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["draw", "draw_image"]

FINER: Final = 3  # drawn this much larger, then averaged
REACH: Final = {"large": 0.46, "small": 0.28}  # half of a thing's size, in cells

Point = tuple[float, float]


def draw(scene: Scene, size: int) -> Pixels:
    """``[size, size, 3]``.

    Raises:
        MissingPackageError: Pillow is not installed.
    """
    return np.asarray(draw_image(scene, size))


def draw_image(scene: Scene, size: int) -> Image.Image:
    """As `draw`, as Pillow has it, which can write it to a file."""
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


def _star(x: float, y: float, r: float) -> list[Point]:
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
