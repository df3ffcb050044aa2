"""What a study found: its trials, and rows in which seeds are taken together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from embshare._value import Record
from embshare.errors import InvalidValueError
from embshare.tasks.measurement.provenance import Provenance
from embshare.tasks.runs.seeds import mean_and_deviation
from embshare.tasks.studies.record import TaskRecord, TrialRecord
from embshare.tasks.studies.reporting.significance import half_width
from embshare.tasks.studies.study_file import StudyFile
from embshare.tasks.task import Metric

__all__ = ["ACROSS", "Row", "Spread", "StudyReport", "check_metric"]

ACROSS = ("task", "seed")
"""Axes that no row is named by: each task has its own rows, and seeds are taken together."""


@dataclass(frozen=True)
class Spread:
    """A number over several seeds."""

    mean: float
    deviation: float | None
    """Sample standard deviation; ``None`` for one seed, NaN where one diverged."""
    count: int

    @classmethod
    def over(cls, values: list[float]) -> Spread:
        """Mean and deviation of some values."""
        return cls(*mean_and_deviation(values), len(values))

    @property
    def half_width(self) -> float | None:
        """Half the width of the 95 % t-interval; ``None`` for one seed, NaN where one diverged."""
        return None if self.deviation is None else half_width(self.deviation, self.count)


@dataclass(frozen=True, kw_only=True)
class Row:
    """The trials that differ in their seed alone."""

    labels: Mapping[str, str]
    """Axis -> value, without those of `ACROSS`."""
    stored: int
    hidden: int
    read: int
    bytes_on_disk: int
    metric: Spread
    ms_per_step: Spread
    peak_mib: Spread
    growth_mib: Spread
    seconds: Spread
    """Training time."""
    steps: int
    shares: bool
    """Whether its models share by deriving: tied layers of their own are ordinary ones."""
    change: float | None = None
    """Mean of the metric relative to the baseline's, 0 where equal; ``None`` without one."""
    trials: tuple[TrialRecord, ...] = field(default=(), repr=False, compare=False)

    @property
    def first(self) -> str:
        """Label on the first axis; empty where there is none."""
        return next(iter(self.labels.values()), "")

    @property
    def rest(self) -> tuple[str, ...]:
        """Labels on all further axes."""
        return tuple(self.labels.values())[1:]


class StudyReport(Record):
    """All trials of a study with their provenance; ``results.json`` is this as it is."""

    format: Literal[3] = 3
    study: StudyFile
    provenance: Provenance
    tasks: tuple[TaskRecord, ...]
    """Tasks of which a trial has ended."""
    trials: tuple[TrialRecord, ...]
    search: tuple[TrialRecord, ...] = ()
    """Trials that a search for rates has tried, and found a better one than; nothing is compared
    with them."""
    failed: dict[str, str] = Field(default_factory=dict)
    """Trial -> first line of its error, or what it needs that failed."""

    def task(self, name: str) -> TaskRecord:
        """A task by name."""
        (found,) = (record for record in self.tasks if record.name == name)
        return found

    def metric(self, task: str) -> Metric:
        """What the rows of a task are compared by."""
        metric, compare = self.task(task).metric, self.study.compare
        if compare.metric in (None, metric.name):
            return metric
        return Metric(
            name=compare.metric,
            label=compare.metric.replace("_", " "),
            better=compare.better or metric.better,
        )

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that rows are named by."""
        return tuple(name for name in self.study.labels if name not in ACROSS)

    @property
    def seeds(self) -> tuple[str, ...]:
        """The seeds, as they are shown."""
        return self.study.labels.get("seed", ("0",))

    def rows(self, task: str) -> Iterator[Row]:
        """The trials of one task, seeds taken together, in the order of the axes.

        Raises:
            InvalidValueError: they have no metric of the name that the study compares by.
        """
        metric, labels = self.metric(task), self.study.labels
        axes = [axis for axis in labels if axis not in ACROSS]  # asked once: it takes long
        groups: dict[tuple[str, ...], list[TrialRecord]] = {}
        for trial in self.trials:
            if trial.result.task == task:
                check_metric(self.study, trial)
                groups.setdefault(tuple(trial.labels[axis] for axis in axes), []).append(trial)
        places = [{label: n for n, label in enumerate(labels[axis])} for axis in axes]
        means = {key: _spread(found, metric.name).mean for key, found in groups.items()}
        for key in sorted(
            groups, key=lambda key: [place[v] for place, v in zip(places, key, strict=True)]
        ):
            named = dict(zip(axes, key, strict=True))
            base = means.get(self.baseline_of(named))
            change = means[key] / base - 1 if base and self.study.compare.baseline else None
            yield _row(named, groups[key], metric.name, change)

    def baseline_of(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The labels, on the same axes, of what a row with these labels is compared with."""
        baseline = self.study.compare.baseline
        return tuple(baseline.get(axis, label) for axis, label in labels.items())


def check_metric(study: StudyFile, trial: TrialRecord) -> None:
    """Find that a study compares by a metric that a trial does not have.

    Raises:
        InvalidValueError: it does; with the names that the trial has.
    """
    name, found = study.compare.metric, trial.result.metrics
    if name is not None and name not in found:
        fault = f"`compare.metric`: must be one of {', '.join(found)}, but is {name!r}"
        raise InvalidValueError(what="study", faults=[fault])


def _spread(trials: list[TrialRecord], metric: str) -> Spread:
    return Spread.over([trial.result.metrics[metric] for trial in trials])


def _row(
    labels: Mapping[str, str], trials: list[TrialRecord], metric: str, change: float | None
) -> Row:
    """Sizes are the same for all seeds up to the digits in a header; the largest is shown."""
    results = [trial.result for trial in trials]
    first = results[0]
    return Row(
        labels=labels,
        stored=first.stored_parameters,
        hidden=first.hidden_parameters,
        read=first.read_parameters,
        bytes_on_disk=max(result.bytes for result in results),
        metric=_spread(trials, metric),
        ms_per_step=Spread.over([result.ms_per_step for result in results]),
        peak_mib=Spread.over([result.peak_mib for result in results]),
        growth_mib=Spread.over([result.peak_mib - result.resident_mib for result in results]),
        seconds=Spread.over([result.seconds for result in results]),
        steps=first.steps,
        shares=first.config.share is not None and first.config.share.method != "own",
        change=change,
        trials=tuple(trials),
    )
