"""What a benchmark's config says and refuses."""

from typing import Any

import pytest

from embshare.errors import InvalidValueError
from embshare.tasks.benchmark.config import QUICK_STEPS, BenchmarkConfig, quick


def test_the_default_is_three_architectures_three_methods_and_enough_seeds_for_a_spread() -> None:
    cells = BenchmarkConfig().cells()
    assert len(cells) == 3 * 3 * 3
    assert cells[0].name == "language_modelling--lstm--dense--seed0"
    assert [cell.seed for cell in cells[:9]] == [0] * 9, "a whole grid before the next seed"


def test_quick_is_the_same_grid_with_less_of_everything() -> None:
    full, short = BenchmarkConfig(seeds=(4, 5)), quick(BenchmarkConfig(seeds=(4, 5)))
    assert short.seeds == (4,)
    assert short.language_modelling.training.steps == QUICK_STEPS
    assert (short.architectures, short.methods) == (full.architectures, full.methods)


def test_a_config_comes_back_from_json() -> None:
    config = BenchmarkConfig(seeds=(7,), methods=("dense", "veps"), tie="cycle:2")
    assert BenchmarkConfig.from_json(config.to_json()) == config


def test_methods_share_as_the_config_says() -> None:
    config = BenchmarkConfig(tie="none", gain="learned", factor=8)
    assert config.share_config("dense") is None
    share = config.share_config("veps")
    assert share is not None
    assert (share.method, share.tie, share.gain, share.factor) == ("veps", "none", "learned", 8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": ()}, "`seeds`: must have an entry, and each entry once"),
        ({"seeds": (1, 1)}, "`seeds`: must have an entry, and each entry once"),
        ({"architectures": ("rnn",)}, "Input should be 'lstm', 'conv' or 'attention'"),
        ({"methods": ("lora",)}, "Input should be 'dense', 'eps' or 'veps'"),
        ({"overwrite": True, "resume": True}, "`overwrite` and `resume` exclude each other"),
        ({"step": 3}, "`step`"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        BenchmarkConfig(**fields)
