"""What a matched config refuses, and that its three architectures keep one budget."""

import pytest
from torch import nn

from embshare.models.matched import (
    ARCHITECTURES,
    Architecture,
    MatchedClassifier,
    MatchedConfig,
    MatchedConfigError,
    MatchedLanguageModel,
    MatchedSeq2Seq,
    hidden_parameters,
)

MODELS = (MatchedLanguageModel, MatchedClassifier, MatchedSeq2Seq)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("width", [64, 96, 256])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_hidden_parameters_agree_within_two_percent(
    model: type[nn.Module], width: int, kernel_size: int
) -> None:
    sizes = [
        hidden_parameters(
            model(
                MatchedConfig(
                    architecture=architecture,
                    vocab_size=50,
                    width=width,
                    layers=2,
                    kernel_size=kernel_size,
                )
            )
        )
        for architecture in ARCHITECTURES
    ]
    assert max(sizes) <= 1.02 * min(sizes), sizes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_layer_has_the_weights_that_the_budget_says(architecture: Architecture) -> None:
    config = MatchedConfig(architecture=architecture, vocab_size=50, width=64, layers=3, budget=14)
    model = MatchedLanguageModel(config)
    matrices = sum(p.numel() for p in model.backbone.parameters() if p.dim() > 1)
    assert matrices == 3 * 14 * 64**2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": "rnn"},
            "`MatchedConfig.architecture` must be one of lstm, conv, attention, but is 'rnn' "
            "instead. Other architectures can be shared too, but are not of this family.",
        ),
        (
            {"layers": 0},
            "`MatchedConfig.layers` must be at least 1, but is 0 instead. Raise `layers`.",
        ),
        (
            {"pad_token_id": 50},
            "`MatchedConfig.pad_token_id` must be a row of the table, from 0 to 49, but is 50 "
            "instead. Choose another token, or raise `vocab_size`.",
        ),
        (
            {"dropout": 1.0},
            "`MatchedConfig.dropout` must be at least 0 and below 1, but is 1.0 instead. "
            "0 turns it off.",
        ),
        (
            {"width": 20},
            "`MatchedConfig.width` must be a multiple of 2 * heads = 8, but is 20 instead. "
            "Rotary positions turn pairs of columns of each head.",
        ),
        (
            {"kernel_size": 4},
            "`MatchedConfig.kernel_size` must be odd, but is 4 instead. "
            "An even kernel cannot be centred.",
        ),
        (
            {"dilations": ()},
            "`MatchedConfig.dilations` must be one or more steps of at least 1, but is () "
            "instead. (1,) is an ordinary convolution.",
        ),
        (
            {"architecture": "conv", "kernel_size": 7},
            "`MatchedConfig.budget` must be more than the 14 that the conv mixer takes alone, but "
            "is 12 instead. Raise `budget`, or lower `kernel_size` where the mixer is a "
            "convolution.",
        ),
    ],
)
def test_a_wrong_field_is_named_with_the_hint(changes: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {"architecture": "lstm", "vocab_size": 50, "width": 16, **changes}
    with pytest.raises(MatchedConfigError) as caught:
        MatchedConfig(**fields)  # type: ignore[arg-type]
    assert str(caught.value) == message
    assert caught.value.field in changes or caught.value.field == "budget"
