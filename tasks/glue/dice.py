"""Chance that is the same on every machine and under every version of Python."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar, final

__all__ = ["Dice"]

T = TypeVar("T")


@final
class Dice:
    """Python promises the sequence of ``random()`` alone, so all else is made of that."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def chance(self, probability: float) -> bool:
        """True this often."""
        return self._random.random() < probability

    def pick(self, things: Sequence[T]) -> T:
        """One of them."""
        return things[int(self._random.random() * len(things))]

    def other(self, things: Sequence[T], but: T) -> T:
        """One of them that is not ``but``."""
        return self.pick([thing for thing in things if thing != but])

    def some(self, things: Sequence[T], count: int) -> list[T]:
        """So many of them, each another."""
        found: list[T] = []
        while len(found) < count:
            if (thing := self.pick(things)) not in found:
                found.append(thing)
        return found

    def below(self, count: int) -> int:
        """A number from 0 on."""
        return int(self._random.random() * count)

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """All of them, in any order."""
        keys = [self._random.random() for _ in things]
        return [things[place] for place in sorted(range(len(things)), key=keys.__getitem__)]
