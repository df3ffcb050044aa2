"""The official metrics, as percentages or correlations times 100, as they are published."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np

from embshare.tasks.glue.table import GlueTask

__all__ = ["METRICS", "score"]

Values: TypeAlias = np.ndarray[tuple[int], np.dtype[Any]]


def score(
    task: GlueTask, predictions: Sequence[float], labels: Sequence[float]
) -> dict[str, float]:
    """Every metric of a task, and ``score``, their mean, where they are several.

    Args:
        task: a row of the table.
        predictions: of each row, a class's number or a score.
        labels: of each row, likewise.
    """
    guessed, truth = np.asarray(predictions), np.asarray(labels)
    found = {name: 100 * METRICS[name](guessed, truth) for name in task.metrics}
    if len(found) > 1:
        found["score"] = sum(found.values()) / len(found)
    return found


def accuracy(guessed: Values, truth: Values) -> float:
    """Part of the rows that are right."""
    return float((guessed == truth).mean())


def f1(guessed: Values, truth: Values) -> float:
    """Of class 1; 0 where it is never guessed."""
    from sklearn.metrics import f1_score  # type: ignore[import-untyped]

    return float(f1_score(truth, guessed, zero_division=0))


def mcc(guessed: Values, truth: Values) -> float:
    """Matthews correlation; 0 where all guesses, or all labels, are one class."""
    from sklearn.metrics import matthews_corrcoef

    return 0.0 if _constant(guessed, truth) else float(matthews_corrcoef(truth, guessed))


def pearson(guessed: Values, truth: Values) -> float:
    """Linear correlation; 0 where one side is constant, NaN where a guess is not finite."""
    from scipy.stats import pearsonr  # type: ignore[import-untyped]

    return _correlation(pearsonr, guessed, truth)


def spearman(guessed: Values, truth: Values) -> float:
    """Correlation of ranks; 0 and NaN as in `pearson`."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, guessed, truth)


def _correlation(of: Callable[[Values, Values], Any], guessed: Values, truth: Values) -> float:
    if not np.isfinite(guessed).all():
        return math.nan
    if _constant(guessed, truth):
        return 0.0
    with warnings.catch_warnings():  # that guesses are nearly constant is seen from the figure
        warnings.simplefilter("ignore")
        return float(of(guessed.astype(np.float64), truth.astype(np.float64))[0])


def _constant(*sides: Values) -> bool:
    return any(bool((side == side[0]).all()) for side in sides)


METRICS: Final[Mapping[str, Callable[[Values, Values], float]]] = MappingProxyType(
    {"accuracy": accuracy, "f1": f1, "mcc": mcc, "pearson": pearson, "spearman": spearman}
)
"""By name; each from -1 or 0 to 1."""
