"""Blocks of one kind, some of them shared and some not: seldom meant, and easily missed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from embshare._tables import plural
from embshare._warnings import notify
from embshare.errors import UnevenCoverageWarning
from embshare.plan.inventory import LOOKED_UP
from embshare.plan.slots import LeftDense, Slot
from embshare.plan.tying import pattern_of

__all__ = ["Uneven", "uneven_roles", "warn_uneven"]


class Uneven(NamedTuple):
    """Weights whose names differ only in indices, and of one size."""

    pattern: str
    shared: int
    """How many of them are derived."""
    dense: tuple[LeftDense, ...]
    """The others."""

    def __str__(self) -> str:
        number = self.shared + len(self.dense)
        first = self.dense[0]
        more = f" and {len(self.dense) - 1} more" if len(self.dense) > 1 else ""
        return (
            f"`{self.pattern}` is shared in {self.shared} of {number} blocks and stays dense in "
            f"the others (`{first.weight}`{more}: {first.reason})"
        )


def uneven_roles(slots: Iterable[Slot], left_dense: Iterable[LeftDense]) -> tuple[Uneven, ...]:
    """What is shared in some repeated blocks only, in the order of what stays dense."""
    shared = Counter((pattern_of(name), slot.numel) for slot in slots for name in slot.weights)
    dense: dict[tuple[str, int], list[LeftDense]] = defaultdict(list)
    for entry in left_dense:
        if entry.reason == LOOKED_UP:
            continue  # whatever its name, a table is no repetition of a layer
        dense[pattern_of(entry.weight), entry.numel].append(entry)
    return tuple(
        Uneven(key[0], shared[key], tuple(entries)) for key, entries in dense.items() if shared[key]
    )


def warn_uneven(found: Sequence[Uneven]) -> None:
    """Warn once of all of a plan's uneven roles."""
    if found:
        more = (
            f", and {plural(len(found) - 1, 'more role')}: see the plan" if len(found) > 1 else ""
        )
        notify(
            f"{found[0]}{more}. Let `include` and `exclude` name the weight in every block alike, "
            f"or ignore this warning where it is meant.",
            UnevenCoverageWarning,
        )
