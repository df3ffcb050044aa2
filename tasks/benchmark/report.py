"""What a benchmark found: one run for each model, taken together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from pydantic import JsonValue

from embshare._value import Record
from embshare.models.matched import Architecture
from embshare.tasks.benchmark.config import BenchmarkConfig, Cell, Method
from embshare.tasks.measurement.provenance import Provenance
from embshare.tasks.running.result import RunResult
from embshare.tasks.running.seeds import mean_and_deviation
from embshare.tasks.task import Metric

__all__ = ["BenchmarkReport", "Row", "Spread", "TaskRecord", "cell_of"]


class TaskRecord(Record):
    """A task, as it was run."""

    name: str
    metric: Metric
    data: dict[str, JsonValue]
    """Sources, sizes and fingerprints."""


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


@dataclass(frozen=True, kw_only=True)
class Row:
    """One architecture under one method, over its seeds."""

    architecture: Architecture
    method: Method
    stored: int
    hidden: int
    read: int
    bytes_on_disk: int
    metric: Spread
    ms_per_step: Spread
    peak_mib: Spread
    growth_mib: Spread


class BenchmarkReport(Record):
    """All runs of a benchmark with their provenance; ``results.json`` is this as it stands."""

    format: Literal[2] = 2
    config: BenchmarkConfig
    provenance: Provenance
    tasks: tuple[TaskRecord, ...]
    results: tuple[RunResult, ...]

    def task(self, name: str) -> TaskRecord:
        """A task by name."""
        (found,) = (record for record in self.tasks if record.name == name)
        return found

    def rows(self, task: str) -> Iterator[Row]:
        """The runs of one task, seeds taken together, in the order of the config."""
        metric = self.task(task).metric.name
        for architecture in self.config.architectures:
            for method in self.config.methods:
                found = [
                    result
                    for result in self.results
                    if cell_of(result)[:3] == (task, architecture, method)
                ]
                if found:
                    yield _row(found, metric)


def cell_of(result: RunResult) -> Cell:
    """The point of the grid that a run is."""
    share = result.config.share
    method: Method = "dense" if share is None else share.method
    return Cell(result.task, cast("Architecture", result.config.model), method, result.seed)


def _row(results: list[RunResult], metric: str) -> Row:
    """Sizes are the same for all seeds up to the digits in a header; the largest is shown."""
    first = results[0]
    _, architecture, method, _ = cell_of(first)
    return Row(
        architecture=architecture,
        method=method,
        stored=first.stored_parameters,
        hidden=first.hidden_parameters,
        read=first.read_parameters,
        bytes_on_disk=max(result.bytes for result in results),
        metric=Spread.over([result.metrics[metric] for result in results]),
        ms_per_step=Spread.over([result.ms_per_step for result in results]),
        peak_mib=Spread.over([result.peak_mib for result in results]),
        growth_mib=Spread.over([result.peak_mib - result.resident_mib for result in results]),
    )
