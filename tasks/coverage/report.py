"""The result of walks: rows with the versions that they came from, and what got worse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from embshare._value import Value
from embshare.tasks.measurement.provenance import Provenance
from embshare.tasks.coverage.row import Row

__all__ = ["Report", "Walk", "regressions"]

SLACK = 0.005
"""By which the derived share of a model may fall: new versions of a library change models."""


class Walk(Value):
    """Rows of one run."""

    provenance: Provenance
    rows: tuple[Row, ...]


class Report(Value):
    """What ``embshare coverage --out`` writes: a row of each architecture, from the latest walk."""

    walks: tuple[Walk, ...] = ()

    def rows(self) -> tuple[Row, ...]:
        """Of all walks, by library and name."""
        found = (row for walk in self.walks for row in walk.rows)
        return tuple(sorted(found, key=_key))

    def joined(self, walk: Walk) -> Report:
        """With another walk, whose rows take the place of earlier ones of the same names."""
        newer = {_key(row) for row in walk.rows}
        return Report(walks=(*_without(self.walks, newer), walk))

    def without_others(self, known: Iterable[tuple[str, str]]) -> Report:
        """Without the rows of architectures that their library no longer has.

        Args:
            known: library and name of all that the walked libraries have now.
        """
        keys = set(known)
        walked = {library for library, _ in keys}
        gone = {key for row in self.rows() if (key := _key(row))[0] in walked} - keys
        return Report(walks=tuple(_without(self.walks, gone)))


def _key(row: Row) -> tuple[str, str]:
    return row.library, row.name


def _without(walks: Iterable[Walk], newer: set[tuple[str, str]]) -> Iterator[Walk]:
    for walk in walks:
        kept = tuple(row for row in walk.rows if _key(row) not in newer)
        if kept:
            yield walk.model_copy(update={"rows": kept})


def regressions(old: Iterable[Row], new: Iterable[Row]) -> list[str]:
    """What passed before and does not now, and what derives less; one sentence each.

    Rows that only one side has are passed over: libraries grow, and a walk may be of a part.
    """
    before = {_key(row): row for row in old}
    found = []
    for row in new:
        was = before.get(_key(row))
        if was is None or was.outcome != "passes":
            continue
        if row.outcome != "passes":
            found.append(f"{row.library} {row.name}: {row.outcome} ({row.stage}: {row.finding})")
        elif row.share < was.share - SLACK:
            fallen = f"derives {row.share:.1%}, before {was.share:.1%}"
            found.append(f"{row.library} {row.name}: {fallen}")
    return found
