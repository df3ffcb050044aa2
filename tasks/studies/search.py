"""A search for learning rates: which of the trials that were tried for a point is the best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from embshare.tasks.studies.record import TaskRecord, TrialRecord
from embshare.tasks.task import Metric

__all__ = ["best_of", "chosen", "selected_by"]

LOSS = "valid_loss"


def selected_by(metric: Metric, metrics: Iterable[str]) -> tuple[str, bool]:
    """Name the metric that rates are chosen by, and whether lower is better.

    It is the metric that models are compared by, on the validation set: ``valid_perplexity`` for
    perplexity. A task that computes no such number there has its validation loss; and one that has
    neither, such as GLUE, is compared by its development set anyway.

    Args:
        metric: What models are compared by.
        metrics: Names of all metrics of a result.
    """
    known = set(metrics)
    if (name := f"valid_{metric.name}") in known:
        return name, metric.better == "lower"
    if LOSS in known:
        return LOSS, True
    return metric.name, metric.better == "lower"


def best_of(records: Sequence[TrialRecord], metric: Metric) -> TrialRecord:
    """Return the best of some trials, the first of equal ones; NaN is worse than any number."""
    name, lower = selected_by(metric, records[0].result.metrics)

    def place(record: TrialRecord) -> tuple[bool, float]:
        value = record.result.metrics[name]
        return math.isnan(value), value if lower else -value

    return min(records, key=place)


def chosen(
    records: Sequence[TrialRecord], tasks: Sequence[TaskRecord]
) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """Separate the trials that are compared from those that a search has tried in vain.

    Args:
        records: Trials, all that were tried for one point having the same labels.
        tasks: Their tasks.
    Returns:
        For each point the best, in their order; and all others.
    """
    metrics = {task.name: task.metric for task in tasks}
    groups: dict[tuple[str, ...], list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(tuple(record.labels.values()), []).append(record)
    best = [best_of(group, metrics[group[0].result.task]) for group in groups.values()]
    names = {record.name for record in best}
    return best, [record for record in records if record.name not in names]
