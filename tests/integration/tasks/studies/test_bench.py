"""The built-in study: what its config says and refuses."""

from pathlib import Path
from typing import Any

import pytest

from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.studies.bench import QUICK, BenchmarkConfig, quick, standard_tasks

LM = "language_modelling"
OUT = Path("out")


def test_the_default_is_every_architecture_and_method_on_each_standard_task() -> None:
    config = BenchmarkConfig()
    trials = config.study().trials(OUT)
    assert len(trials) == len(standard_tasks()) * 3 * 3
    assert trials[0].name == "language_modelling--lstm--dense--seed0"
    assert set(config.settings) == set(standard_tasks()) <= set(TASKS)
    assert all(found == TASKS[name].settings_class()() for name, found in config.settings.items())


def test_a_whole_grid_comes_before_the_next_seed() -> None:
    trials = BenchmarkConfig(tasks=(LM,), seeds=(0, 1)).study().trials(OUT)
    assert [trial.config.seed for trial in trials] == [0] * 9 + [1] * 9


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


def test_models_that_share_may_have_a_rate_of_their_own() -> None:
    config = BenchmarkConfig(tasks=(LM,), shared_hidden_lr=0.7)
    dense = BenchmarkConfig(tasks=(LM,)).training(LM).hidden_lr
    for trial in config.study().trials(OUT):
        settings: Any = trial.config.settings
        assert settings.training.hidden_lr == (dense if trial.config.share is None else 0.7)
        same = settings.training.model_copy(update={"hidden_lr": dense})
        assert settings.model_copy(update={"training": same}) == config.settings[LM]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": ()}, "`seeds`: must have an entry, and each entry once"),
        ({"seeds": (1, 1)}, "`seeds`: must have an entry, and each entry once"),
        ({"architectures": ("rnn",)}, "Input should be 'lstm', 'conv' or 'attention'"),
        ({"shared_hidden_lr": 0}, "`shared_hidden_lr`: Input should be greater than 0"),
        ({"methods": ("lora",)}, "Input should be 'dense', 'eps' or 'veps'"),
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
