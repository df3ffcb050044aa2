"""Summarise runs that differ in their seed: mean, standard deviation and best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from embshare._value import Record
from embshare.errors import InvalidValueError
from embshare.tasks.runs.folder import differences
from embshare.tasks.runs.result import RunResult

__all__ = ["SeedSummary", "mean_and_deviation", "summarise_seeds"]


class SeedSummary(Record):
    """A metric over several seeds."""

    metric: str
    n: int
    """Number of runs."""
    mean: float
    std: float | None
    """Sample standard deviation (divided by n - 1); ``None`` for a single run, NaN where one
    diverged."""
    best: float
    best_seed: int

    def __str__(self) -> str:
        std = "" if self.std is None else f" ± {self.std:.1f}"
        return f"{self.metric} {self.mean:.1f}{std} (n = {self.n}, best {self.best:.1f})"


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Compute the mean and the sample standard deviation.

    Args:
        values: one or more values. If one is non-finite the deviation is NaN, and the mean is that
            of floating-point arithmetic.
    Returns:
        Mean and standard deviation; the latter is ``None`` for a single value.
    """
    finite = all(map(math.isfinite, values))
    mean = statistics.fmean(values) if finite else sum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, statistics.stdev(values) if finite else math.nan


def summarise_seeds(
    results: Sequence[RunResult],
    *,
    better: Literal["lower", "higher"],
    metric: str | None = None,
) -> SeedSummary:
    """Summarise a metric over seeds: report the mean; the best may be shown beside it.

    NaN ranks as the worst value.

    Args:
        results: results of runs with equal settings and different seeds.
        better: direction of the metric, as in the task's `Metric`.
        metric: name of the metric; by default the one that runs are compared by.
    Raises:
        InvalidValueError: there are no results, two have the same seed, they differ in more than
            their seeds, or they do not have the metric.
    """
    _check(results)
    name = metric or results[0].metric
    if any(name not in result.metrics for result in results):
        fault = f"`metric` must be one of {', '.join(results[0].metrics)}, but is {name!r}"
        raise InvalidValueError(what="the summary over seeds", faults=[fault])
    values = {result.seed: result.metrics[name] for result in results}
    choose, worst = (min, math.inf) if better == "lower" else (max, -math.inf)
    ranks = {seed: worst if math.isnan(value) else value for seed, value in values.items()}
    seed = choose(ranks, key=ranks.__getitem__)
    mean, std = mean_and_deviation(list(values.values()))
    return SeedSummary(
        metric=name,
        n=len(values),
        mean=mean,
        std=std,
        best=values[seed],
        best_seed=seed,
    )


def _check(results: Sequence[RunResult]) -> None:
    faults: list[str] = []
    if not results:
        faults.append("`results` must hold a run, but is empty")
    seeds = [result.seed for result in results]
    if len(set(seeds)) < len(seeds):
        faults.append(f"`results` must have different seeds, but have {sorted(seeds)}")
    for other in results[1:]:
        changed = [n for n in differences(results[0].config, other.config) if n != "seed"]
        if changed:
            faults.append(f"`results` must differ in their seeds only, but differ in {changed}")
            break
    if faults:
        raise InvalidValueError(what="the summary over seeds", faults=faults)
