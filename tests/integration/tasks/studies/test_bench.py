"""The built-in study: what its config says and refuses."""

from pathlib import Path
from typing import Any

import pytest

from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.studies.bench import (
    METHODS,
    PRESET,
    QUICK,
    STEPS,
    BenchmarkConfig,
    quick,
    standard_tasks,
)

LM = "language_modelling"
OUT = Path("out")


def test_the_default_is_every_architecture_and_method_on_each_standard_task() -> None:
    config = BenchmarkConfig()
    trials = config.study().trials(OUT)
    assert len(trials) == len(standard_tasks()) * 3 * len(METHODS)
    assert trials[0].name == "language_modelling--lstm--dense--seed0"
    assert set(config.settings) == set(standard_tasks()) <= set(TASKS)
    for name, found in config.settings.items():
        steps: dict[str, Any] = {"training": {"steps": STEPS[name]}}
        assert found == TASKS[name].settings_class()(**steps)


def test_a_whole_grid_comes_before_the_next_seed() -> None:
    trials = BenchmarkConfig(tasks=(LM,), seeds=(0, 1)).study().trials(OUT)
    assert [trial.config.seed for trial in trials] == [0] * 18 + [1] * 18


def test_quick_is_the_same_grid_with_less_of_everything() -> None:
    full = BenchmarkConfig(seeds=(4, 5))
    short = quick(full)
    assert short.seeds == (4,)
    for task in full.tasks:
        assert short.training(task).steps == -(-full.training(task).steps // QUICK)
    assert (short.architectures, short.methods) == (full.architectures, full.methods)


def test_a_config_comes_back_from_json() -> None:
    fields: dict[str, Any] = {"seeds": (7,), "settings": {LM: {"width": 32}}}
    config = BenchmarkConfig(methods=("dense", "veps"), share=ShareConfig(tie="cycle:2"), **fields)
    assert BenchmarkConfig.from_json(config.to_json()) == config


def test_methods_share_as_the_config_says() -> None:
    config = BenchmarkConfig(share=ShareConfig(tie="none", gain="learned", factor=8))
    assert config.share_config("dense") is None
    for method in ("eps", "veps"):
        share = config.share_config(method)
        assert share is not None
        assert share in {trial.config.share for trial in config.study().trials(OUT)}
        assert (share.method, share.tie, share.gain, share.factor) == (method, "none", "learned", 8)
    preset, tied = config.share_config("preset"), config.share_config("tied")
    assert preset is not None and tied is not None
    assert preset.model_dump() == {**config.share.model_dump(), **PRESET}
    assert tied == ShareConfig(method="own", tie="none")


def test_a_narrow_model_takes_what_a_shared_one_does() -> None:
    trials = BenchmarkConfig(tasks=(LM,), methods=("dense", "narrow", "veps")).study().trials(OUT)
    by = {(trial.labels["model"], trial.labels["method"]): trial for trial in trials}
    for model in ("lstm", "conv", "attention"):
        assert by[model, "narrow"].alike == (by[model, "veps"].name,)
        assert by[model, "narrow"].config.share is None


def test_rates_are_recorded_given_or_searched() -> None:
    recorded = {t.name: t for t in BenchmarkConfig().study().trials(OUT)}
    assert len({t.config.training.hidden_lr for t in recorded.values()}) > 2
    given: dict[str, Any] = {LM: {"training": {"hidden_lr": 0.77}}}
    for trial in BenchmarkConfig(tasks=(LM,), settings=given).study().trials(OUT):
        assert trial.config.training.hidden_lr == 0.77
    searched = BenchmarkConfig(tasks=(LM,), search=True, seeds=(0, 1)).study().trials(OUT)
    assert len(searched) == 3 * len(METHODS) * (3 + 1)


def test_models_that_share_may_have_a_rate_of_their_own() -> None:
    config = BenchmarkConfig(tasks=(LM,), shared_hidden_lr=0.7)
    dense = BenchmarkConfig(tasks=(LM,)).training(LM).hidden_lr
    for trial in config.study().trials(OUT):
        settings: Any = trial.config.settings
        assert (settings.training.hidden_lr == 0.7) == (trial.config.share is not None)
        same = settings.training.model_copy(update={"hidden_lr": dense})
        assert settings.model_copy(update={"training": same}) == config.settings[LM]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": ()}, "`seeds`: must have an entry, and each entry once"),
        ({"seeds": (1, 1)}, "`seeds`: must have an entry, and each entry once"),
        ({"architectures": ("rnn",)}, "Input should be 'lstm', 'conv' or 'attention'"),
        ({"shared_hidden_lr": 0}, "`shared_hidden_lr`: Input should be greater than 0"),
        ({"methods": ("lora",)}, "Input should be 'dense', 'narrow', 'tied', 'eps', 'veps' or"),
        ({"methods": ("dense", "narrow")}, "narrow needs a method that shares, for its bytes"),
        ({"tasks": ({"name": LM},)}, "must be one of the tasks"),
        ({"tasks": 5}, "`tasks`: Input should be a valid tuple"),
        ({"tasks": ("weather",)}, "`weather` must be one of the tasks"),
        ({"settings": {"weather": {}}}, "`weather` must be one of the tasks"),
        ({"settings": {LM: {"wdith": 3}}}, "`wdith`"),
        ({"step": 3}, "`step`"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        BenchmarkConfig(**fields)
