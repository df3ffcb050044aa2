"""What scenes there are, and the sentences that describe them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

__all__ = ["COLOURS", "GROUNDS", "SHAPES", "SIDE", "Scene", "Thing", "describe", "imagine"]

SIDE: Final = 2
"""A scene is a square of so many cells a side."""
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
SIZES: Final = {"large": ("large", "big"), "small": ("small", "little", "tiny")}
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
    """One or two things, each in a cell of its own, on a ground."""

    ground: str
    things: tuple[Thing, ...]


def imagine(random: Random) -> Scene:
    """A scene by chance."""
    cells = random.sample(range(SIDE * SIDE), random.choice((1, 2, 2)))
    return Scene(random.choice(list(GROUNDS)), tuple(_thing(cell, random) for cell in cells))


def _thing(cell: int, random: Random) -> Thing:
    return Thing(
        shape=random.choice(SHAPES),
        colour=random.choice(list(COLOURS)),
        size=random.choice(list(SIZES)),
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
    words = ("a", random.choice(SIZES[thing.size]), look, thing.colour, thing.shape)
    return " ".join(word for word in words if word)


def _place(thing: Thing, random: Random) -> str:
    row, column = ROWS[thing.row], COLUMNS[thing.column]
    return random.choice((f"at the {row} {column}", f"in the {row} {column} corner"))


def _relation(one: Thing, other: Thing) -> str:
    if one.column != other.column:
        return "to the left of" if one.column < other.column else "to the right of"
    return "above" if one.row < other.row else "below"
