"""Metrics: worked by hand, and degenerate cases without warnings."""

import math
from typing import Any

import pytest

from embshare.tasks.glue.data import TASKS
from embshare.tasks.glue.metrics import METRICS, compared, score


def test_every_task_has_its_official_metrics() -> None:
    assert {name: task.metrics for name, task in TASKS.items()} == {
        "cola": ("mcc",),
        "sst2": ("accuracy",),
        "mrpc": ("f1", "accuracy"),
        "stsb": ("pearson", "spearman"),
        "qqp": ("f1", "accuracy"),
        "mnli": ("accuracy",),
        "qnli": ("accuracy",),
        "rte": ("accuracy",),
        "wnli": ("accuracy",),
    }
    assert set(METRICS) == {name for task in TASKS.values() for name in task.metrics}
    names = {name: compared(task).name for name, task in TASKS.items()}
    assert {name for name, metric in names.items() if metric == "score"} == {"mrpc", "stsb", "qqp"}
    assert (names["cola"], names["mnli"]) == ("mcc", "accuracy")


def test_by_hand() -> None:
    predictions, labels = (
        [1, 1, 0, 0, 1, 0],
        [1, 0, 0, 0, 1, 1],
    )  # 2 hits, 1 false, 1 missed, 2 right
    found = score(TASKS["mrpc"], predictions, labels)
    assert found["accuracy"] == pytest.approx(100 * 4 / 6)
    assert found["f1"] == pytest.approx(100 * 4 / 6)
    assert found["score"] == pytest.approx((found["f1"] + found["accuracy"]) / 2)
    mcc = (2 * 2 - 1 * 1) / math.sqrt(3 * 3 * 3 * 3)
    assert score(TASKS["cola"], predictions, labels) == {"mcc": pytest.approx(100 * mcc)}
    ranks = score(TASKS["stsb"], [0.1, 0.2, 5.0], [0.0, 1.0, 2.0])
    assert ranks["spearman"] == pytest.approx(100)
    assert ranks["pearson"] == pytest.approx(100 * 4.9 / math.sqrt(2 * 15.687), abs=0.5)


@pytest.mark.parametrize(
    ("name", "predictions", "labels"),
    [
        ("cola", [1, 1, 1], [1, 0, 1]),
        ("cola", [1, 0, 1], [1, 1, 1]),
        ("stsb", [2.5, 2.5, 2.5], [0, 1, 2]),
    ],
)
def test_constant_predictions_score_nothing(
    name: Any, predictions: list[float], labels: Any
) -> None:
    assert set(score(TASKS[name], predictions, labels).values()) == {0.0}


def test_class_1_that_is_never_predicted_has_an_f1_of_nothing() -> None:
    assert score(TASKS["qqp"], [0, 0], [0, 1])["f1"] == 0


def test_nearly_constant_predictions_do_not_warn_and_diverged_ones_are_not_finite() -> None:
    assert math.isfinite(score(TASKS["stsb"], [1, 1 + 1e-16, 1 + 3e-16], [0, 1, 2])["pearson"])
    assert math.isnan(score(TASKS["stsb"], [1, math.nan, 3], [0, 1, 2])["score"])
