"""Several runs that differ in their seed alone, as one result: mean, spread and best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from embshare._value import Record
from embshare.errors import InvalidValueError
from embshare.tasks.running.folder import differences
from embshare.tasks.running.result import RunResult

__all__ = ["SeedSummary", "mean_and_deviation", "summarise_seeds"]


class SeedSummary(Record):
    """One metric over the seeds of a run."""

    metric: str
    n: int
    """Of runs."""
    mean: float
    spread: float | None
    """Standard deviation of a sample (divided by n - 1); ``None`` for a single run, NaN where one
    diverged."""
    best: float
    best_seed: int

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        return f"{self.metric} {self.mean:.1f}{spread} (n = {self.n}, best {self.best:.1f})"


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of a sample.

    Args:
        values: At least one. Where one is not finite the deviation is NaN, and the mean is what
            their sum makes it.
    Returns:
        Both; the deviation of a single value is ``None``.
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
    """The mean over seeds, which is to be reported, and the best, which may be shown beside it.

    A value that is no number is the worst.

    Args:
        results: of runs with the same settings and other seeds.
        better: which way is better, as the task's `Metric` says.
        metric: by name; by default the one that runs are compared by.
    Raises:
        InvalidValueError: there are no results, two have one seed, they differ in more than their
            seeds, or they have no such metric.
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
    mean, spread = mean_and_deviation(list(values.values()))
    return SeedSummary(
        metric=name,
        n=len(values),
        mean=mean,
        spread=spread,
        best=values[seed],
        best_seed=seed,
    )


def _check(results: Sequence[RunResult]) -> None:
    faults: list[str] = []
    if not results:
        faults.append("`results` must hold a run, but is empty")
    seeds = [result.seed for result in results]
    if len(set(seeds)) < len(seeds):
        faults.append(f"`results` must have seeds of their own, but have {sorted(seeds)}")
    for other in results[1:]:
        changed = [n for n in differences(results[0].config, other.config) if n != "seed"]
        if changed:
            faults.append(f"`results` must differ in their seeds alone, but differ in {changed}")
            break
    if faults:
        raise InvalidValueError(what="the summary over seeds", faults=faults)
