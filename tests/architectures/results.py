"""The result file: a row of each architecture, with the versions that it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

from embshare._value import Value
from embshare.tasks.measurement.provenance import Provenance

__all__ = ["MOSTLY", "Kept", "Outcome", "Report", "Row", "Run", "regressions"]

MOSTLY: Final = 0.95
"""Part of a model's hidden parameters; what derives less is listed."""
SLACK: Final = 0.005
"""By which the derived part of a model may fall: new versions of a library change models."""

Outcome = Literal["passes", "fails", "no table", "not run"]
"""``no table``: it reads no tokens, and sharing refused it with a clear error before any work.
``not run``: it cannot be built or run as it is, dense and without us; `Row.finding` says why."""


class Kept(Value):
    """Weights that stayed dense for one reason."""

    reason: str
    weights: tuple[str, ...]
    """Their names, those of repeated blocks once."""
    elements: int


class Row(Value):
    """One architecture."""

    library: str
    name: str
    outcome: Outcome
    stage: str = ""
    """The step that failed, where it did not pass."""
    finding: str = ""
    """The error's own words."""
    source: tuple[str, ...] = ()
    """Tables that weights were read from."""
    parameters: int = 0
    """Elements of the test model's parameters."""
    hidden: int = 0
    """Elements of the matrices of its layers, heads included and tables not."""
    derived: int = 0
    """Elements of these that are computed from a table when it is shared."""
    dense: tuple[Kept, ...] = ()
    """The others."""
    tables: tuple[Kept, ...] = ()
    """Tables besides the source, and parameters that are vectors in effect."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """Part of the hidden parameters that is derived: 0 to 1."""
        return self.derived / self.hidden if self.hidden else 0.0

    @property
    def partly_dense(self) -> bool:
        """Whether it passes with fewer of its hidden parameters derived than it should."""
        return self.outcome == "passes" and self.share < MOSTLY

    @property
    def key(self) -> tuple[str, str]:
        """What no two rows have in common."""
        return self.library, self.name


class Run(Value):
    """Rows of one call of the command."""

    provenance: Provenance
    rows: tuple[Row, ...]


class Report(Value):
    """What ``--out`` writes: a row of each architecture, from the latest run that it was in."""

    runs: tuple[Run, ...] = ()

    def rows(self) -> tuple[Row, ...]:
        """Rows of all runs, by library and name."""
        return tuple(sorted((row for run in self.runs for row in run.rows), key=lambda r: r.key))

    def joined(self, run: Run) -> Report:
        """With another run, whose rows take the place of earlier ones of the same names."""
        newer = {row.key for row in run.rows}
        return Report(runs=(*_without(self.runs, newer), run))

    def without_others(self, known: Iterable[tuple[str, str]]) -> Report:
        """Without the rows of architectures that their library no longer has.

        Args:
            known: library and name of all that the checked libraries have now.
        """
        keys = set(known)
        checked = {library for library, _ in keys}
        gone = {row.key for row in self.rows() if row.library in checked} - keys
        return Report(runs=tuple(_without(self.runs, gone)))


def _without(runs: Iterable[Run], keys: set[tuple[str, str]]) -> Iterator[Run]:
    for run in runs:
        if kept := tuple(row for row in run.rows if row.key not in keys):
            yield run.model_copy(update={"rows": kept})


def regressions(old: Iterable[Row], new: Iterable[Row]) -> list[str]:
    """What passed before and does not now, and what derives less; one sentence each.

    Rows that only one of them has are passed over: libraries grow, and a run may be of a part.
    """
    before = {row.key: row for row in old}
    found = []
    for row in new:
        was = before.get(row.key)
        if was is None or was.outcome != "passes":
            continue
        if row.outcome != "passes":
            found.append(f"{row.library} {row.name}: {row.outcome} ({row.stage}: {row.finding})")
        elif row.share < was.share - SLACK:
            fallen = f"derives {row.share:.1%}, before {was.share:.1%}"
            found.append(f"{row.library} {row.name}: {fallen}")
    return found
