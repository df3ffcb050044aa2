"""Every recipe is valid, says what was published, and trains when it is made small."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from embshare.errors import InvalidValueError
from embshare.tasks.building import SYSTEMS
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.recipes import recipe, recipes
from embshare.tasks.runs.config import RunConfig, read_config_file
from embshare.tasks.runs.engine import run
from tests.integration.tasks.pretraining.test_task import architecture


def read(name: str) -> RunConfig:
    return RunConfig(**read_config_file(recipe(name)), out=Path("out"))


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_is_valid(name: str) -> None:
    config = read(name)
    assert config.model.removeprefix("embshare:") in SYSTEMS
    assert config.training.hidden_lr == 1.0  # published recipes have one rate


def test_the_published_systems_have_one() -> None:
    assert set(recipes()) == {
        "bert-base",
        "convbert-base",
        "convbert-medium-small",
        "convbert-small",
        "elc-bert-base",
        "ltg-bert-base",
        "sharebert-base",
        "sharebert-large",
        "sharebert-small",
    }


def test_sharebert_has_its_published_steps_and_batch() -> None:
    training = read("sharebert-small").training
    assert training.steps == 23_000
    assert training.batch_size * training.accumulation == 4_000
    assert round(training.warmup * training.steps) == 1_380


def test_elc_bert_rises_for_its_published_steps() -> None:
    training = read("elc-bert-base").training
    assert round(training.warmup * training.steps) == 250
    assert (training.optimizer, training.floor, training.table_decay) == ("lamb", 0.1, 0.0)


@pytest.mark.parametrize(
    "name", ["bert-base", "elc-bert-base", "sharebert-small", "convbert-small"]
)
def test_a_recipe_trains_when_it_is_made_small(name: str, folder: Path, tmp_path: Path) -> None:
    config = read(name)
    settings = config.settings
    assert isinstance(settings, PretrainingConfig)
    less: dict[str, Any] = {"steps": 4, "batch_size": 4, "accumulation": 2, "precision": "fp32"}
    small: dict[str, Any] = {
        "data": folder,
        "tokenizer": None,
        "vocabulary_size": 280,
        "length": 18,
        "late_length": settings.late_length and 36,
        "width": 16,
        "training": settings.training.model_dump() | less,
    }
    replacing = settings.objective == "replaced"
    made = RunConfig(
        task="pretraining",
        model=architecture(tmp_path, "convbert") if replacing else "attention",
        settings=PretrainingConfig(**settings.model_dump() | small),
        out=tmp_path / "run",
    )
    assert math.isfinite(run(made).metrics["masked_perplexity"])


def test_an_unknown_recipe_is_told() -> None:
    with pytest.raises(InvalidValueError, match=r"must be one of bert-base, .*but is 'gpt'"):
        recipe("gpt")
