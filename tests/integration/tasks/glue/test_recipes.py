"""Every recipe is valid, says what was published, and trains when it is made small."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from embshare.tasks.building import SYSTEMS
from embshare.tasks.catalogue import TASKS
from embshare.tasks.glue.config import GlueConfig
from embshare.tasks.runs.config import RunConfig, read_config_file
from embshare.tasks.runs.engine import run
from embshare.tasks.training import make_arguments
from tests._support.task_examples import EXAMPLES

RECIPES = TASKS["glue"].recipes()


def read(name: str) -> RunConfig:
    return RunConfig(**read_config_file(RECIPES[name]), out=Path("out"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid(name: str) -> None:
    config = read(name)
    assert config.model.removeprefix("embshare:") in SYSTEMS
    assert config.training.hidden_lr == 1.0  # published recipes have one rate


def test_the_published_fine_tunings_have_one() -> None:
    assert set(RECIPES) == {"convbert-base", "convbert-small", "sharebert"}


def test_sharebert_rises_for_fifty_steps_and_ends_at_its_last_rate(tmp_path: Path) -> None:
    training = read("sharebert").training
    assert (training.epochs, training.batch_size) == (5, 64)
    counted = training.model_copy(update={"epochs": None, "steps": 1_000})
    made = make_arguments(counted, seed=0, folder=tmp_path)
    assert (made.lr_scheduler_type, made.warmup_steps) == ("polynomial", 50)
    assert made.lr_scheduler_kwargs == {"lr_end": pytest.approx(1e-7), "power": 1.0}


def test_convbert_has_its_published_rates() -> None:
    rates = {name: read(f"convbert-{name}").training.learning_rate for name in ("small", "base")}
    assert rates == {"small": 3e-4, "base": 1e-4}
    training = read("convbert-small").training
    assert (training.epochs, training.batch_size, training.layer_decay) == (3, 32, 0.8)


@pytest.mark.parametrize("name", ["sharebert", "convbert-small"])
def test_a_recipe_trains_when_it_is_made_small(name: str, tmp_path: Path) -> None:
    config, data = read(name), tmp_path / "data"
    data.mkdir()
    small = EXAMPLES["glue"].settings(data)
    small.pop("training")
    training = config.training.model_dump() | {"epochs": 0.1, "warmup_steps": 1}
    training.pop("warmup", None)
    made = RunConfig(
        task="glue",
        model="attention",
        settings=GlueConfig(**(config.settings.model_dump() | small | {"training": training})),
        out=tmp_path / "run",
    )
    assert math.isfinite(run(made).metrics["accuracy"])
