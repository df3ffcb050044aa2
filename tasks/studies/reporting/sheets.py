"""The tables of a report as values, which the page, the Markdown and the CSV file show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from embshare.tasks.studies.reporting.analysis import MEASURES, Analysis
from embshare.tasks.studies.reporting.formatting import (
    show_bytes,
    show_change,
    show_difference,
    show_interval,
    show_number,
    show_p,
    show_share,
    show_spread,
    shown,
)
from embshare.tasks.studies.reporting.significance import Comparison
from embshare.tasks.studies.reporting.trades import Kind

__all__ = [
    "Cell",
    "Sheet",
    "csv_rows",
    "effects_sheet",
    "interactions_sheet",
    "rows_sheet",
    "trades_sheet",
]

FRONTS: Final = {"bytes": "bytes", "parameters": "stored", "time": "time"}
KINDS: Final[dict[Kind, str]] = {
    "free": "smaller, and no worse",
    "saves": "smaller, and worse",
    "adds": "larger, and better",
    "same size": "of the same size",
    "loses": "larger, and no better",
}


@dataclass(frozen=True)
class Cell:
    """One entry of a table: what is shown, and what it is sorted by."""

    text: str
    value: float | str
    kind: str = ""
    """Class of the cell in the page's style."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table with what has to be known to read it."""

    title: str
    head: tuple[str, ...]
    words: int
    """Number of leading columns that are words."""
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    first: tuple[int, ...] = ()
    """Rows that are shown where not all can be; empty is all in their order."""

    def ordered(self) -> list[int]:
        """Indices of all rows, those of `first` before the others."""
        return list(dict.fromkeys((*self.first, *range(len(self.rows)))))


def rows_sheet(analysis: Analysis, most: int) -> Sheet:
    """All rows with their sizes, metric, comparison and costs.

    Args:
        analysis: The task.
        most: Number of rows of which all are shown in their order.
    """
    metric, several = analysis.metric, analysis.seeds > 1
    interval = " (mean ± 95 % interval)" if several else ""
    tested = any(c is not None and c.p is not None for c in analysis.comparisons)
    taken = any(row.trials[0].rates or row.trials[0].solved for row in analysis.rows)
    head = [axis.replace("_", " ") for axis in analysis.report.axes]
    head += ["bytes on disk", metric.label + interval]
    head += ["change", "difference"] * analysis.compared + ["p (Holm)"] * tested
    head += ["on front of", "stored", "of these hidden", "read", *["std", "seeds"] * several]
    head += ["searched and solved"] * taken
    head += ["ms per step", "training s", "peak MiB", "training added MiB"]
    notes = [
        "Stored parameters, parameters that layers read, bytes on disk, speed and memory are "
        "separate numbers: sharing cuts what is stored, not arithmetic."
    ]
    if tested:
        notes.append(
            "* is significant at 5 % against the baseline: paired t-test over the seeds, with "
            "Holm's correction over all rows of this table."
        )
    rows = tuple(
        tuple(_row(analysis, index, several, tested, taken)) for index in range(len(analysis.rows))
    )
    return Sheet(
        title="All rows",
        head=tuple(head),
        words=len(analysis.report.axes),
        rows=rows,
        notes=tuple(notes),
        first=tuple(analysis.chosen(most)) if len(rows) > most else (),
    )


def _row(
    analysis: Analysis, index: int, several: bool, tested: bool, taken: bool
) -> Iterator[Cell]:
    row, comparison = analysis.rows[index], analysis.comparisons[index]
    for label in row.labels.values():
        yield Cell(shown(label), label)
    yield Cell(f"{row.bytes_on_disk:,}", row.bytes_on_disk)
    yield Cell(show_interval(row.metric), row.metric.mean, kind="metric")
    if analysis.compared:
        yield _number(row.change, _change(analysis, index))
        yield _difference(comparison, show_difference(comparison))
    if tested:
        p = None if comparison is None else comparison.corrected
        yield _number(p, show_p(p))
    fronts = [FRONTS[name] for name in MEASURES if analysis.on_front(name, index)]
    yield Cell(", ".join(fronts), -len(fronts), kind="front")
    for number in (row.stored, row.hidden, row.read):
        yield Cell(f"{number:,}", number)
    if several:
        deviation = row.metric.deviation
        yield _number(deviation, "" if deviation is None else f"{deviation:.3g}")
        yield Cell(str(row.metric.count), row.metric.count)
    if taken:
        found = row.trials[0].rates | row.trials[0].solved
        text = ", ".join(f"{name} {value}" for name, value in found.items())
        yield Cell(text, text)
    yield Cell(show_spread(row.ms_per_step, digits=3), row.ms_per_step.mean)
    yield Cell(show_number(row.seconds.mean, digits=3), row.seconds.mean)
    for spread in (row.peak_mib, row.growth_mib):
        yield Cell(f"{spread.mean:,.0f}", spread.mean)


def _change(analysis: Analysis, index: int) -> str:
    row = analysis.rows[index]
    if analysis.is_baseline(row):
        return "baseline"
    return show_change(row, analysis.comparisons[index])


def _difference(comparison: Comparison | None, text: str) -> Cell:
    return _number(None if comparison is None else comparison.difference, text)


def _number(value: float | None, text: str) -> Cell:
    return Cell(text, math.nan if value is None else value)


def trades_sheet(analysis: Analysis, most: int) -> Sheet | None:
    """What each row costs beside its baseline for a byte; ``None`` without a baseline."""
    found = [(t, n) for n, t in enumerate(analysis.trades) if t is not None]
    if not found:
        return None
    found.sort(key=lambda pair: pair[0].order)
    unit = analysis.metric.label
    axes = tuple(axis.replace("_", " ") for axis in analysis.report.axes)
    rows = []
    for each, index in found:
        rate = each.per_megabyte
        comparison = analysis.comparisons[index]
        words = KINDS[each.kind]
        rows.append(
            (
                *(Cell(shown(v), v) for v in analysis.rows[index].labels.values()),
                Cell(words, words),
                Cell(("+" if each.bytes > 0 else "") + show_bytes(each.bytes), each.bytes),
                _difference(
                    comparison,
                    show_difference(comparison)
                    + "*" * (comparison is not None and comparison.significant),
                ),
                _number(rate, "" if rate is None else show_number(rate, digits=3)),
            )
        )
    baseline = ", ".join(f"{a} {v}" for a, v in analysis.report.study.compare.baseline.items())
    return Sheet(
        title="What a byte costs",
        head=(*axes, "beside the baseline", "bytes on disk", unit, f"{unit} per MB"),
        words=len(axes) + 1,
        rows=tuple(rows),
        notes=(
            f"Beside {baseline}, the same on all other axes: free savings first, then the cheapest "
            "ones, then the best gains. The last column is what a saved megabyte costs, or what an "
            "added one gains. Where the interval of a difference holds 0, the seeds do not tell a "
            "cost from a gain.",
        ),
        first=tuple(range(min(most, len(rows)))) if len(rows) > most else (),
    )


def effects_sheet(analysis: Analysis) -> Sheet | None:
    """The mean of each label of each axis; ``None`` where no axis can be told from the others."""
    effects = analysis.effects
    if effects is None:
        return None
    rows = []
    for effect in effects.main:
        for label, mean in effect.means.items():
            rows.append(
                (
                    Cell(effect.axis.replace("_", " "), effect.axis),
                    Cell(shown(label), label),
                    Cell(show_number(mean), mean),
                    Cell(
                        show_number(mean - effects.mean, digits=3, sign=True), mean - effects.mean
                    ),
                    _number(effect.share, show_share(effect.share)),
                )
            )
    used = f"{effects.used:,} of {effects.given:,} trials"
    notes = [
        f"Means over all else in the part of the grid that is full ({used}), in the unit of "
        f"{analysis.metric.label}. The last column is the share of the variance that the axis "
        "explains by itself."
    ]
    if effects.left_out:
        names = ", ".join(effects.left_out[:6]) + ", …" * (len(effects.left_out) > 6)
        notes.append(f"Left out, as trials are missing or diverged: {names}.")
    if effects.rest is not None:
        notes.append(
            f"{show_share(effects.rest)} of the variance is neither an axis's nor a pair's: noise, "
            "and three axes or more together."
        )
    return Sheet(
        title="What each axis does",
        head=("axis", "label", f"mean {analysis.metric.label}", "from the mean", "of variance"),
        words=2,
        rows=tuple(rows),
        notes=tuple(notes),
    )


def interactions_sheet(analysis: Analysis) -> Sheet | None:
    """How far pairs of axes are from adding up; ``None`` without a pair."""
    effects = analysis.effects
    if effects is None or not effects.interactions:
        return None
    rows = tuple(
        (
            Cell(" × ".join(i.axes).replace("_", " "), " × ".join(i.axes)),
            Cell(", ".join(map(shown, i.at)), ", ".join(i.at)),
            Cell(show_number(i.largest, digits=3, sign=True), i.largest),
            _number(i.relative, "-" if i.relative is None else f"{i.relative:.2f}"),
            _number(i.share, show_share(i.share)),
        )
        for i in effects.interactions
    )
    return Sheet(
        title="Which axes depend on each other",
        head=("axes", "largest at", "beyond the sum", "beside the main effects", "of variance"),
        words=2,
        rows=rows,
        notes=(
            "The mean at two labels less what both main effects add up to, where that is largest, "
            f"in the unit of {analysis.metric.label} and as a part of the larger main effect. "
            "Where it is small, what is best on one axis is best whatever the other.",
        ),
    )


def csv_rows(analysis: Analysis) -> Iterator[dict[str, object]]:
    """Every row with unrounded numbers, by the names of columns."""
    axes = analysis.report.axes
    for index, row in enumerate(analysis.rows):
        comparison = analysis.comparisons[index]
        found: dict[str, object] = {"task": analysis.task}
        found |= {axis: row.labels[axis] for axis in axes}
        found |= {
            "metric": analysis.metric.name,
            "mean": row.metric.mean,
            "std": row.metric.deviation,
            "seeds": row.metric.count,
            "half_width_95": row.metric.half_width,
            "stored_parameters": row.stored,
            "hidden_parameters": row.hidden,
            "read_parameters": row.read,
            "bytes": row.bytes_on_disk,
            "ms_per_step": row.ms_per_step.mean,
            "seconds": row.seconds.mean,
            "peak_mib": row.peak_mib.mean,
            "change": row.change,
            "difference": comparison and comparison.difference,
            "difference_half_width_95": comparison and comparison.half_width,
            "p": comparison and comparison.p,
            "p_holm": comparison and comparison.corrected,
            "pairs": comparison and comparison.pairs,
        }
        taken = row.trials[0].rates | row.trials[0].solved
        found |= {f"taken_{name}": value for name, value in taken.items()}
        found |= {f"front_{name}": analysis.on_front(name, index) for name in MEASURES}
        yield found
