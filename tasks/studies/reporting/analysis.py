"""What a study says of one task: fronts, tests against the baseline, effects, costs, and words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

from embshare.tasks.studies.record import TrialRecord
from embshare.tasks.studies.report import ACROSS, Row, StudyReport
from embshare.tasks.studies.reporting.effects import Effects, Point, effects_of
from embshare.tasks.studies.reporting.formatting import show_bytes, shown
from embshare.tasks.studies.reporting.fronts import pareto_front
from embshare.tasks.studies.reporting.significance import Comparison, holm, paired
from embshare.tasks.studies.reporting.trades import Trade, trade
from embshare.tasks.studies.study_file import StudyFile
from embshare.tasks.task import Metric

__all__ = ["MEASURES", "Analysis", "Measure", "analyse"]

SEED: Final = "seed"
METHODS: Final = ("method", "share", "sharing")
"""Names of the axis that says how weights are shared, if there is one of them."""
PANELS: Final = 4
SEGMENTS: Final = 5  # ranges of sizes that a sentence can list


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A size of which less is better, that the metric is held against."""

    label: str
    unit: str
    of: Callable[[Row], float]


MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "bytes": Measure(label="bytes on disk", unit="B", of=lambda row: float(row.bytes_on_disk)),
        "parameters": Measure(
            label="stored parameters, table included", unit="", of=lambda row: float(row.stored)
        ),
        "time": Measure(label="training time", unit="s", of=lambda row: row.seconds.mean),
    }
)
"""What there are fronts of, the first of them the main one."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """One task of a study; sequences are in the order of `rows`."""

    report: StudyReport
    task: str
    metric: Metric
    rows: tuple[Row, ...]
    baselines: tuple[Row | None, ...]
    """What each row is compared with; ``None`` for baselines, and where there is none."""
    comparisons: tuple[Comparison | None, ...]
    trades: tuple[Trade | None, ...]
    fronts: Mapping[str, tuple[int, ...]]
    """Name of a measure -> rows on its front, by rising size."""
    effects: Effects | None

    @property
    def lower(self) -> bool:
        """Whether less of the metric is better."""
        return self.metric.better == "lower"

    @property
    def title(self) -> str:
        """The task as a heading."""
        return self.task.replace("_", " ").capitalize()

    @property
    def compared(self) -> bool:
        """Whether there is a baseline."""
        return bool(self.report.study.compare.baseline)

    @property
    def seeds(self) -> int:
        """The most seeds that a row has."""
        return max((row.metric.count for row in self.rows), default=0)

    @cached_property
    def method_axis(self) -> str | None:
        """The axis that models differ by, which markers show."""
        varied = [axis for axis in self.report.axes if len(self._labels(axis)) > 1]
        axes = varied or list(self.report.axes)
        named = [axis for axis in axes if axis in METHODS]
        shares = [axis for axis in axes if axis.startswith("share")]
        return next(iter((named or shares or axes)[::-1]), None)

    @cached_property
    def panel_axis(self) -> str | None:
        """The axis that has a panel for each label: another one with few labels, if there is."""
        for axis in self.report.axes:
            if axis != self.method_axis and 1 < len(self._labels(axis)) <= PANELS:
                return axis
        return None

    def _labels(self, axis: str) -> list[str]:
        return list(dict.fromkeys(row.labels[axis] for row in self.rows))

    def name(self, row: Row) -> str:
        """A row by its labels."""
        return ", ".join(map(shown, row.labels.values())) or self.report.study.name

    def on_front(self, measure: str, index: int) -> bool:
        """Whether a row is on a front."""
        return index in self.fronts[measure]

    def chosen(self, most: int) -> list[int]:
        """Rows to look at where not all can be shown: baselines, the front, and the best others."""
        order = [*self.fronts["bytes"], *self._best()]
        bases = {id(base) for base in self.baselines if base is not None}
        if 2 * len(bases) <= most:
            order = [n for n, row in enumerate(self.rows) if id(row) in bases] + order
        return sorted(list(dict.fromkeys(order))[:most])

    def _best(self) -> list[int]:
        sign = 1 if self.lower else -1
        means = [row.metric.mean for row in self.rows]
        return sorted(
            range(len(means)), key=lambda n: (not math.isfinite(means[n]), sign * means[n])
        )

    def sentences(self) -> Iterator[str]:
        """Say where sharing wins, and what no number here can say."""
        yield from self._winners()
        yield from self._searches()
        yield from self._doubts()

    def _winners(self) -> Iterator[str]:
        front = [self.rows[index] for index in self.fronts["bytes"]]
        if not front:
            yield "No row has a finite metric: every model diverged."
            return
        shares = {row.shares for row in self.rows}
        if shares != {True, False}:
            kind = "share" if True in shares else "have ordinary layers"
            yield f"All models {kind}: this study does not say where sharing wins."
            return
        parts: list[tuple[bool, list[Row]]] = []
        for row in front:
            if not parts or parts[-1][0] != row.shares:
                parts.append((row.shares, []))
            parts[-1][1].append(row)
        if len(parts) > SEGMENTS:
            sizes = show_bytes(front[0].bytes_on_disk), show_bytes(parts[-1][1][0].bytes_on_disk)
            yield (
                f"Between {sizes[0]} and {sizes[1]} it changes {len(parts) - 1} times whether a "
                "model that shares is best for its bytes on disk: see the figure."
            )
            return
        said = []
        for number, (sharing, rows) in enumerate(parts):
            last = number + 1 == len(parts)
            upto = "" if last else f" up to {show_bytes(parts[number + 1][1][0].bytes_on_disk)}"
            since = f" from {show_bytes(rows[0].bytes_on_disk)}"
            who = "a model that shares" if sharing else "one of ordinary layers"
            said.append(f"{who}{since}{upto}")
        yield f"Best for its bytes on disk: {'; '.join(said)}."

    def _searches(self) -> Iterator[str]:
        tried = [t.result.seconds for t in self.report.search if t.result.task == self.task]
        if tried:
            yield (
                f"Rates were searched: beside the trials that are compared, {len(tried):,} were "
                f"trained for {sum(tried):,.0f} s, and found to be worse on the validation set."
            )

    def _doubts(self) -> Iterator[str]:
        counts = {row.metric.count for row in self.rows}
        if counts == {1}:
            yield (
                "One seed for each row: no intervals and no tests; a small difference proves "
                "nothing."
            )
        bad = [row for row in self.rows if not math.isfinite(row.metric.mean)]
        if bad:
            names = ", ".join(self.name(row) for row in bad[:3]) + ", …" * (len(bad) > 3)
            yield f"{len(bad):,} of {len(self.rows):,} rows have a trial that diverged ({names})."
        if self.compared and len(counts - {1}):
            notes = Counter(c.note for c in self.comparisons if c is not None and c.note)
            for note, count in notes.most_common(3):
                yield f"{count} comparison{'s' * (count > 1)} with the baseline: {note}."
            missing = sum(
                base is None and not self.is_baseline(row)
                for row, base in zip(self.rows, self.baselines, strict=True)
            )
            if missing:
                yield f"{missing} rows have no baseline with the same labels on the other axes."

    def is_baseline(self, row: Row) -> bool:
        """Whether others are compared with this row."""
        baseline = self.report.study.compare.baseline
        return bool(baseline) and all(row.labels.get(a, v) == v for a, v in baseline.items())


def analyse(report: StudyReport, task: str) -> Analysis:
    """Analyse one task of a study.

    Where a study names no baseline, but has an axis of what is left out of sharing, its models are
    compared with those that leave nothing out: what sharing each slot costs.

    Raises:
        InvalidValueError: trials have no metric of the name that the study compares by.
    """
    if not report.study.compare.baseline and (found := _unexcluded(report.study)):
        compare = report.study.compare.model_copy(update={"baseline": found})
        study = report.study.model_copy(update={"compare": compare})
        report = report.model_copy(update={"study": study})
    metric, rows = report.metric(task), tuple(report.rows(task))
    lower = metric.better == "lower"
    named = {tuple(row.labels.values()): row for row in rows}
    bases: list[Row | None] = []
    for row in rows:
        base = named.get(report.baseline_of(row.labels)) if report.study.compare.baseline else None
        bases.append(None if base is row else base)
    comparisons = _compared(rows, bases, metric.name)
    return Analysis(
        report=report,
        task=task,
        metric=metric,
        rows=rows,
        baselines=tuple(bases),
        comparisons=comparisons,
        trades=tuple(
            None
            if base is None or comparison is None
            else trade(
                larger_by=row.bytes_on_disk - base.bytes_on_disk,
                difference=comparison.difference,
                lower=lower,
            )
            for row, base, comparison in zip(rows, bases, comparisons, strict=True)
        ),
        fronts={
            name: tuple(
                pareto_front([(measure.of(row), row.metric.mean) for row in rows], lower=lower)
            )
            for name, measure in MEASURES.items()
        },
        effects=effects_of([_point(trial, metric.name) for row in rows for trial in row.trials]),
    )


def _unexcluded(study: StudyFile) -> dict[str, str]:
    """The axis that changes what is shared, with its first label that leaves nothing out."""
    for axis, found in study.axes.items():
        points = list(found.values()) if isinstance(found, Mapping) else [{axis: v} for v in found]
        left_out = [bool(list(_left_out(point))) for point in points]
        if any(left_out) and not all(left_out):
            return {axis: study.labels[axis][left_out.index(False)]}
    return {}


def _left_out(options: Mapping[str, Any]) -> Iterator[Any]:
    """The patterns in some options that keep layers from being shared."""
    for name, value in options.items():
        field = name.rpartition(".")[2].removeprefix("share_")
        if isinstance(value, Mapping):
            yield from _left_out(value)
        elif field == "exclude" and value:
            yield value
        elif field == "include" and value and value not in ("*", ["*"], ("*",)):
            yield value


def _compared(
    rows: Sequence[Row], bases: Sequence[Row | None], metric: str
) -> tuple[Comparison | None, ...]:
    """Each row's comparison with its baseline, corrected over all of them."""
    found = [
        None if base is None else paired(_by_seed(row, metric), _by_seed(base, metric))
        for row, base in zip(rows, bases, strict=True)
    ]
    tested = [n for n, each in enumerate(found) if each is not None and each.p is not None]
    corrected = holm([each.p for n in tested if (each := found[n]) and each.p is not None])
    for index, p in zip(tested, corrected, strict=True):
        each = found[index]
        assert each is not None
        found[index] = replace(each, corrected=p)
    return tuple(found)


def _by_seed(row: Row, metric: str) -> dict[str, float]:
    return {_seed(trial): trial.result.metrics[metric] for trial in row.trials}


def _seed(trial: TrialRecord) -> str:
    return trial.labels.get(SEED, str(trial.result.seed))


def _point(trial: TrialRecord, metric: str) -> Point:
    labels = {axis: label for axis, label in trial.labels.items() if axis not in ACROSS}
    return labels | {SEED: _seed(trial)}, trial.result.metrics[metric]
