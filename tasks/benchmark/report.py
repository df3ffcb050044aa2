"""What a benchmark found: one record for each model, and where it was found."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ConfigDict, JsonValue

from embshare._value import Value
from embshare.config import ShareConfig
from embshare.models.matched import Architecture
from embshare.tasks.benchmark.config import BenchmarkConfig, Method, TaskName
from embshare.tasks.measurement.provenance import Provenance
from embshare.tasks.task import Metric

__all__ = ["BenchmarkReport", "CellRecord", "Row", "Spread", "TaskRecord"]


class Record(Value):
    """A value that may hold infinite numbers: a model may be as bad as that."""

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="strings")


class CellRecord(Record):
    """One trained model."""

    task: TaskName
    architecture: Architecture
    method: Method
    seed: int
    share: ShareConfig | None
    """How it was shared; ``None`` for a dense model."""
    stored: int
    """Parameters in its checkpoint; a shared one once."""
    read: int
    """Parameters that its layers compute with; a shared one at each reader."""
    bytes_on_disk: int
    """Of the files that it was really saved to."""
    metrics: dict[str, float]
    """All that its task measured; which one counts is in `TaskRecord.metric`."""
    training_loss: float
    ms_per_step: float
    """Median over the steps after `warmup_steps`."""
    warmup_steps: int
    """Steps at the beginning whose time does not count."""
    peak_mib: float
    """Most memory that the process had during training."""
    resident_mib: float
    """Memory that it had before, with Python and all libraries."""
    peak_source: str
    """What measured the peak, and over which time."""
    seconds: float
    """From building to saving."""
    fingerprint: str
    """Of everything that decides this record but the machine."""


class TaskRecord(Record):
    """A task, as it was run."""

    name: TaskName
    metric: Metric
    data: dict[str, JsonValue]
    """Sources, sizes and fingerprints."""


@dataclass(frozen=True)
class Spread:
    """A number over several seeds."""

    mean: float
    deviation: float | None
    """Sample standard deviation; ``None`` for one seed."""
    count: int

    @classmethod
    def over(cls, values: list[float]) -> Spread:
        """Mean and deviation of some values."""
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, len(values))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One architecture under one method, over its seeds."""

    architecture: Architecture
    method: Method
    stored: int
    read: int
    bytes_on_disk: int
    metric: Spread
    ms_per_step: Spread
    peak_mib: Spread
    growth_mib: Spread


class BenchmarkReport(Record):
    """All records of a benchmark with their provenance; ``results.json`` is this as it stands."""

    config: BenchmarkConfig
    provenance: Provenance
    tasks: tuple[TaskRecord, ...]
    records: tuple[CellRecord, ...]

    def rows(self, task: TaskName) -> Iterator[Row]:
        """The records of one task, seeds taken together, in the order of the config."""
        (metric,) = (found.metric.name for found in self.tasks if found.name == task)
        for architecture in self.config.architectures:
            for method in self.config.methods:
                found = [
                    record
                    for record in self.records
                    if (record.task, record.architecture, record.method)
                    == (task, architecture, method)
                ]
                if found:
                    yield _row(found, metric)


def _row(records: list[CellRecord], metric: str) -> Row:
    """Sizes are the same for all seeds up to the digits in a header; the largest is shown."""
    first = records[0]
    return Row(
        architecture=first.architecture,
        method=first.method,
        stored=first.stored,
        read=first.read,
        bytes_on_disk=max(record.bytes_on_disk for record in records),
        metric=Spread.over([record.metrics[metric] for record in records]),
        ms_per_step=Spread.over([record.ms_per_step for record in records]),
        peak_mib=Spread.over([record.peak_mib for record in records]),
        growth_mib=Spread.over([record.peak_mib - record.resident_mib for record in records]),
    )
