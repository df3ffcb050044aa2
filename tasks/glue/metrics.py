"""The official metrics, as percentages or correlations times 100, as they are published."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np

from embshare.tasks.glue.data import GlueTask
from embshare.tasks.task import Metric

__all__ = ["METRICS", "compared", "score"]

Values: TypeAlias = np.ndarray[tuple[int], np.dtype[Any]]


def score(
    task: GlueTask, predictions: Sequence[float], labels: Sequence[float]
) -> dict[str, float]:
    """Every metric of a task, and ``score``, their mean, where they are several.

    Args:
        task: a row of the table.
        predictions: a class's number or a score for each example.
        labels: a class's number or a score for each example.
    """
    predicted, truth = np.asarray(predictions), np.asarray(labels)
    found = {name: 100 * METRICS[name](predicted, truth) for name in task.metrics}
    if len(found) > 1:
        found["score"] = sum(found.values()) / len(found)
    return found


def compared(task: GlueTask) -> Metric:
    """Name the metric that a task's models are compared by: its own, or the mean of its two."""
    name = "score" if len(task.metrics) > 1 else task.metrics[0]
    return Metric(name=name, label=LABELS[task.metrics], better="higher")


def accuracy(predicted: Values, truth: Values) -> float:
    """Share of examples that are right."""
    return float((predicted == truth).mean())


def f1(predicted: Values, truth: Values) -> float:
    """F1 of class 1; 0 where it is never predicted."""
    from sklearn.metrics import f1_score  # type: ignore[import-untyped]

    return float(f1_score(truth, predicted, zero_division=0))


def mcc(predicted: Values, truth: Values) -> float:
    """Matthews correlation; 0 where all predictions, or all labels, are one class."""
    from sklearn.metrics import matthews_corrcoef

    return 0.0 if _constant(predicted, truth) else float(matthews_corrcoef(truth, predicted))


def pearson(predicted: Values, truth: Values) -> float:
    """Linear correlation; 0 where one of both is constant, NaN where a prediction is not finite."""
    from scipy.stats import pearsonr  # type: ignore[import-untyped]

    return _correlation(pearsonr, predicted, truth)


def spearman(predicted: Values, truth: Values) -> float:
    """Correlation of ranks; 0 and NaN as in `pearson`."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, predicted, truth)


def _correlation(of: Callable[[Values, Values], Any], predicted: Values, truth: Values) -> float:
    if not np.isfinite(predicted).all():
        return math.nan
    if _constant(predicted, truth):
        return 0.0
    with warnings.catch_warnings():  # nearly constant predictions are seen from the score
        warnings.simplefilter("ignore")
        return float(of(predicted.astype(np.float64), truth.astype(np.float64))[0])


def _constant(*series: Values) -> bool:
    return any(bool((values == values[0]).all()) for values in series)


METRICS: Final[Mapping[str, Callable[[Values, Values], float]]] = MappingProxyType(
    {"accuracy": accuracy, "f1": f1, "mcc": mcc, "pearson": pearson, "spearman": spearman}
)
"""Metrics by name; each from -1 or 0 to 1."""
LABELS: Final[Mapping[tuple[str, ...], str]] = MappingProxyType(
    {
        ("accuracy",): "accuracy (%)",
        ("f1", "accuracy"): "mean of F1 and accuracy (%)",
        ("mcc",): "Matthews correlation (x 100)",
        ("pearson", "spearman"): "mean of Pearson's and Spearman's correlation (x 100)",
    }
)
"""Labels of an axis, by a task's metrics."""
