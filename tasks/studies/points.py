"""The points of a study: axes, lists that go together, single points and random draws, crossed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from types import MappingProxyType
from typing import Annotated, Final, TypeAlias

from pydantic import Field, JsonValue, model_validator

from embshare._value import Value

__all__ = [
    "NONE",
    "Axis",
    "Draws",
    "Options",
    "Point",
    "Range",
    "axis_points",
    "crossed",
    "label_of",
    "points_of",
]

Options: TypeAlias = dict[str, JsonValue]
Axis: TypeAlias = tuple[JsonValue, ...] | dict[str, Options]
"""Values of one option; or named sets of options, for what is varied together."""

METHOD: Final = "method"
NONE: Final = "-"
"""Label of a trial on an axis that says nothing about it."""
DIGITS: Final = 4
"""Significant digits of a number that is drawn: as many as a reader wants to see."""


@dataclass(frozen=True)
class Point:
    """One set of options, and what it is called on each axis."""

    labels: Mapping[str, str]
    options: Mapping[str, JsonValue]

    def joined(self, other: Point) -> Point:
        """Join the options of two axes; the later ones override."""
        return Point({**self.labels, **other.labels}, {**self.options, **other.options})


EMPTY: Final = Point(MappingProxyType({}), MappingProxyType({}))


class Range(Value):
    """A distribution that an option's values are drawn from; exactly one of the three.

    Raises:
        InvalidValueError: none or several are given, or the bounds are out of order.
    """

    uniform: tuple[float, float] | None = None
    """Lowest and highest number, each as likely as any between."""
    log_uniform: tuple[float, float] | None = None
    """Lowest and highest number above 0, whose logarithm is uniform: for rates."""
    integer: tuple[int, int] | None = None
    """Lowest and highest integer, both included."""

    @model_validator(mode="after")
    def _one_in_order(self) -> Range:
        given = {name: bounds for name, bounds in self if bounds is not None}
        if len(given) != 1:
            raise ValueError("must have one of `uniform`, `log_uniform` and `integer`")
        ((name, (low, high)),) = given.items()
        if low > high or (name == "log_uniform" and low <= 0):
            above = ", both above 0," * (name == "log_uniform")
            raise ValueError(f"`{name}` must be the lowest and the highest number{above}")
        return self

    def draw(self, random: Random) -> float | int:
        """Draw a number."""
        if self.integer is not None:
            return random.randint(*self.integer)
        if self.uniform is not None:
            return _rounded(random.uniform(*self.uniform))
        assert self.log_uniform is not None
        low, high = map(math.log, self.log_uniform)
        return _rounded(math.exp(random.uniform(low, high)))


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


class Draws(Value):
    """Random search: points whose options are drawn independently of each other.

    The points of a smaller `count` are the first of a larger one, so a study can grow.

    Raises:
        InvalidValueError: no option, an empty list of values, or no such distribution.
    """

    count: Annotated[int, Field(ge=1)]
    """Number of points; draws that are equal are one point."""
    seed: int = 0
    """Seed of the draws."""
    options: Annotated[
        dict[str, Annotated[tuple[JsonValue, ...], Field(min_length=1)] | Range],
        Field(min_length=1),
    ]
    """Option -> its values, each as likely, or a distribution."""

    def points(self) -> Iterator[Point]:
        """Draw the points, in their order."""
        for number in range(self.count):
            yield _of(dict(self._drawn(Random(f"{self.seed} {number}"))))

    def _drawn(self, random: Random) -> Iterator[tuple[str, JsonValue]]:
        for name, found in self.options.items():
            yield name, found.draw(random) if isinstance(found, Range) else random.choice(found)


def points_of(
    axes: Mapping[str, Axis],
    zipped: Mapping[str, Sequence[JsonValue]],
    listed: Sequence[Options],
    draws: Draws | None,
) -> list[list[Point]]:
    """List the points of each part of a study, which are then `crossed`.

    Args:
        axes: Axis -> its values.
        zipped: Option -> its values, as many for each; the first of all go together.
        listed: Sets of options, one for each point.
        draws: Random points.
    """
    parts = [[*axis_points(name, axis)] for name, axis in axes.items()]
    if zipped:
        rows = zip(*zipped.values(), strict=True)
        parts.append([_of(dict(zip(zipped, row, strict=True))) for row in rows])
    if listed:
        names = dict.fromkeys(name for options in listed for name in options)
        parts.append([_of(options, names) for options in listed])
    if draws is not None:
        distinct = {tuple(point.labels.values()): point for point in draws.points()}
        parts.append([*distinct.values()])
    return parts


def axis_points(name: str, axis: Axis) -> Iterator[Point]:
    """The points of one axis."""
    if isinstance(axis, dict):
        yield from (Point({name: label}, options) for label, options in axis.items())
    else:
        yield from (Point({name: label_of(value)}, {name: value}) for value in axis)


def crossed(parts: Sequence[Sequence[Point]]) -> Iterator[Point]:
    """Cross all points of all parts; the last part varies fastest."""
    for points in product(*parts):
        joined = EMPTY
        for point in points:
            joined = joined.joined(point)
        yield joined


def _of(options: Mapping[str, JsonValue], names: Mapping[str, object] | None = None) -> Point:
    """A point that has a label for each of its options, and for `names` that it lacks."""
    labels = {
        name: label_of(options[name]) if name in options else NONE for name in names or options
    }
    return Point(labels, options)


def label_of(value: JsonValue) -> str:
    """Return a value as it is shown; of a mapping its fields, of sharing its method first."""
    if isinstance(value, dict):
        rest = [f"{name}={label_of(each)}" for name, each in value.items() if name != METHOD]
        return " ".join([label_of(value[METHOD]), *rest] if METHOD in value else rest)
    if isinstance(value, list | tuple):
        return ",".join(map(label_of, value))
    words = {None: "none", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
