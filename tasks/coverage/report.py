"""The result of a walk: rows with versions, and what got worse since another."""

from __future__ import annotations

from collections.abc import Iterable

from embshare._value import Value
from embshare.tasks.benchmark.provenance import Provenance
from embshare.tasks.coverage.row import Row

__all__ = ["Report", "regressions"]

SLACK = 0.005
"""By which the derived share of a model may fall: new versions of a library change models."""


class Report(Value):
    """What ``embshare coverage --out`` writes."""

    provenance: Provenance
    rows: tuple[Row, ...]

    def joined(self, rows: Iterable[Row]) -> tuple[Row, ...]:
        """These rows, with newer ones in the place of those of the same name, in order."""
        found = {(row.library, row.name): row for row in (*self.rows, *rows)}
        return tuple(found[key] for key in sorted(found))


def regressions(old: Iterable[Row], new: Iterable[Row]) -> list[str]:
    """What passed before and does not now, and what derives less; one sentence each.

    Rows that only one side has are passed over: libraries grow, and a walk may be of a part.
    """
    before = {(row.library, row.name): row for row in old}
    found = []
    for row in new:
        was = before.get((row.library, row.name))
        if was is None or was.outcome != "passes":
            continue
        if row.outcome != "passes":
            found.append(f"{row.library} {row.name}: {row.outcome} ({row.stage}: {row.finding})")
        elif row.share < was.share - SLACK:
            found.append(f"{row.library} {row.name}: derives {row.share:.1%}, before {was.share:.1%}")
    return found
