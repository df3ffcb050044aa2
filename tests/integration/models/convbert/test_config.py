"""Settings and sizes: what is published, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from embshare.errors import InvalidValueError
from embshare.models.convbert import (
    PRESETS,
    ConvBertConfig,
    ConvBertForPreTraining,
    generator_config,
)
from tests.integration.models.convbert.examples import config

COUNTS = {  # body, generator alone, its head, the discriminator's head, all
    "small": (13_143_768, 770_988, 39_098, 66_049, 14_019_903),
    "medium-small": (17_475_888, 871_884, 43_194, 148_225, 18_539_191),
    "base": (105_680_520, 9_334_744, 229_434, 591_361, 115_836_059),
}
LAYERS = {"small": 761_490, "medium-small": 1_121_124, "base": 6_820_278}
EMBEDDINGS = {"small": 4_005_888, "medium-small": 4_022_400, "base": 23_837_184}


def stored(module: nn.Module) -> int:
    """Parameters, each of them once."""
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_are_as_many_as_officially(preset: str) -> None:
    with torch.device("meta"):
        model = ConvBertForPreTraining(ConvBertConfig.preset(preset))
    parts = (model.convbert, model.generator, model.generator_head, model.discriminator_head)
    assert tuple(stored(part) for part in (*parts, model)) == COUNTS[preset]
    encoder = model.convbert.encoder
    assert [stored(layer) for layer in encoder.layers] == [LAYERS[preset]] * 12
    outside = stored(encoder) - stored(encoder.layers)
    assert stored(model.convbert.embeddings) + outside == EMBEDDINGS[preset]


def test_the_generators_are_the_published_ones() -> None:
    made = {name: generator_config(ConvBertConfig.preset(name)) for name in PRESETS}
    heads = {name: (c.num_attention_heads, c.mixed_heads, c.head_size) for name, c in made.items()}
    assert heads == {"small": (1, 1, 64), "medium-small": (2, 1, 48), "base": (4, 2, 64)}
    assert [c.hidden_size for c in made.values()] == [64, 96, 256]
    assert [c.num_hidden_layers for c in made.values()] == [12, 12, 12]
    with torch.device("meta"):
        model = ConvBertForPreTraining(ConvBertConfig.preset("small"))
    shapes = {name: tuple(p.shape) for name, p in model.generator.named_parameters()}
    assert shapes["layers.0.output.weight"] == (64, 128)


def test_the_defaults_are_the_base_model_and_the_published_objective() -> None:
    assert ConvBertConfig().to_dict() == ConvBertConfig.preset("base").to_dict()
    base = ConvBertConfig()
    assert (base.generator_weight, base.discriminator_weight) == (1.0, 50.0)
    assert (base.mask_probability, base.max_predictions, base.mask_share) == (0.15, 19, 0.85)
    assert (base.layer_norm_eps, base.conv_kernel_size, base.head_ratio) == (1e-12, 9, 2)
    assert ConvBertConfig.preset("small", vocab_size=100).vocab_size == 100


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidValueError) as caught:
        ConvBertConfig.preset("large")
    assert str(caught.value) == (
        "the preset is not valid: it must be one of 'small', 'medium-small', 'base', but is "
        "'large'."
    )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"head_ratio": 3},
            "`head_ratio` must divide `num_attention_heads` = 4, but is 3, which leaves no whole "
            "number of heads",
        ),
        ({"head_ratio": 0}, "`head_ratio` must be a whole number of at least 1, but is 0"),
        ({"head_ratio": 1.5}, "`head_ratio` must be a whole number of at least 1, but is 1.5"),
        ({"conv_kernel_size": 4}, "`conv_kernel_size` must be odd, but is 4"),
        ({"num_groups": 3}, "`hidden_size` must be a multiple of `num_groups` = 3, but is 16"),
        (
            {"num_groups": 16},
            "`intermediate_size` must be a multiple of `num_groups` = 16, but is 24",
        ),
        (
            {"generator_hidden_ratio": 0},
            "`generator_hidden_ratio` must be above 0 and at most 1, but is 0",
        ),
        ({"mask_share": 2}, "`mask_share` must be from 0 to 1, but is 2"),
        ({"hidden_act": "relu"}, "`hidden_act` must be 'gelu', but is 'relu'"),
        ({"conv_type": "noconv"}, "`conv_type` must be 'sdconv', but is 'noconv'"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        config(**settings)
    assert text in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidValueError) as caught:
        config(num_attention_heads=5, conv_kernel_size=4, hidden_act="relu", num_groups=3)
    assert str(caught.value).count("must be") == 4


def test_a_generator_without_whole_heads_is_refused() -> None:
    settings = config(num_attention_heads=8, generator_hidden_ratio=1 / 3)
    with pytest.raises(InvalidValueError) as caught:
        ConvBertForPreTraining(settings)
    assert str(caught.value) == (
        "the generator is not valid: `generator_hidden_ratio` must leave a whole number of the 8 "
        "heads, but 0.3333 leaves 2.667."
    )
