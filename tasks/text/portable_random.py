"""Random choices that are the same on every machine and under every version of Python."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar, final

__all__ = ["PortableRandom"]

T = TypeVar("T")


@final
class PortableRandom:
    """Seeded choices, made of ``random()`` alone: Python promises no other sequence."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def chance(self, probability: float) -> bool:
        """Draw whether something of this probability happens."""
        return self._random.random() < probability

    def pick(self, things: Sequence[T]) -> T:
        """Draw one of them."""
        return things[int(self._random.random() * len(things))]

    def other(self, things: Sequence[T], but: T) -> T:
        """Draw one of them that is not ``but``."""
        return self.pick([thing for thing in things if thing != but])

    def some(self, things: Sequence[T], count: int) -> list[T]:
        """Draw ``count`` different ones."""
        found: list[T] = []
        while len(found) < count:
            if (thing := self.pick(things)) not in found:
                found.append(thing)
        return found

    def below(self, count: int) -> int:
        """Draw a number from 0 to ``count - 1``."""
        return int(self._random.random() * count)

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """Return all of them in random order."""
        keys = [self._random.random() for _ in things]
        return [things[place] for place in sorted(range(len(things)), key=keys.__getitem__)]
