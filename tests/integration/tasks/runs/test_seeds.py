"""Summaries over several seeds."""

import math
from pathlib import Path
from typing import Any

import pytest

from embshare.errors import InvalidValueError
from embshare.tasks.glue.config import GlueConfig
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.result import RunResult
from embshare.tasks.runs.seeds import SeedSummary, summarise_seeds


def result(seed: int, value: float, **settings: Any) -> RunResult:
    fields = {"name": "rte", "data": "x", **settings}
    return RunResult.model_construct(
        metric="accuracy",
        metrics={"accuracy": value, "loss": -value},
        seed=seed,
        config=RunConfig(
            task="glue", seed=seed, out=Path(f"run{seed}"), settings=GlueConfig(**fields)
        ),
    )


def test_mean_std_and_best() -> None:
    found = summarise_seeds([result(0, 60), result(4, 66), result(2, 63)], better="higher")
    assert (found.metric, found.n, found.mean, found.std) == ("accuracy", 3, 63, 3)
    assert (found.best, found.best_seed) == (66, 4)
    assert str(found) == "accuracy 63.0 ± 3.0 (n = 3, best 66.0)"
    lowest = summarise_seeds([result(0, 60), result(1, 66)], better="lower")
    assert lowest.best_seed == 0
    assert lowest.std == pytest.approx(math.sqrt(18))


def test_one_seed_has_no_std() -> None:
    found = summarise_seeds([result(0, 60)], better="higher", metric="loss")
    assert (found.mean, found.std) == (-60, None)
    assert str(found) == "loss -60.0 (n = 1, best -60.0)"


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_seed_that_diverged_makes_the_std_nan(bad: float) -> None:
    runs = [result(0, bad), result(1, 66), result(2, 63)]
    found = summarise_seeds(runs, better="higher" if bad != math.inf else "lower")
    assert found.std is not None and math.isnan(found.std)
    assert not math.isfinite(found.mean)
    assert found.best_seed == (2 if bad == math.inf else 1)
    assert SeedSummary.from_json(found.to_json()).n == 3
    assert math.isnan(summarise_seeds([result(0, bad), result(1, -bad)], better="lower").mean)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "`results` must hold a run"),
        ([result(0, 1), result(0, 2)], r"different seeds, but have \[0, 0\]"),
        ([result(0, 1), result(1, 2, width=8)], r"differ in \['settings\.width'\]"),
    ],
)
def test_runs_that_are_no_seeds_of_one_are_refused(results: list[RunResult], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        summarise_seeds(results, better="higher")


def test_a_metric_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidValueError, match="one of accuracy, loss, but is 'f1'"):
        summarise_seeds([result(0, 1)], better="higher", metric="f1")
