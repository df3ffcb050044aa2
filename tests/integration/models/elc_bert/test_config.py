"""Settings and sizes: what is published, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from embshare.errors import InvalidValueError
from embshare.models.elc_bert import (
    ElcBertConfig,
    ElcBertForMaskedLM,
    ElcBertModel,
    base,
    small,
)
from embshare.models.elc_bert.config import VARIANTS
from tests.integration.models.elc_bert.make_official import SETTINGS
from tests.integration.models.elc_bert.official import config

COUNTS = {  # base and small
    "base": (98_229_838, 23_799_630),
    "zero": (98_229_838, 23_799_630),
    "normalized": (98_229_838, 23_799_630),
    "weighted_output": (98_229_838 + 13, 23_799_630 + 13),
    "ltg": (98_229_760, 23_799_552),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_as_many_as_officially(variant: str) -> None:
    with torch.device("meta"):
        models = [ElcBertForMaskedLM(preset(variant)) for preset in (base, small)]
    found = tuple(sum(p.numel() for p in model.parameters()) for model in models)
    assert found == COUNTS[variant]


def test_ltg_bert_with_its_own_vocabulary() -> None:
    settings = small("ltg")
    settings.vocab_size = 16384
    with torch.device("meta"):
        model = ElcBertForMaskedLM(settings)
    assert sum(p.numel() for p in model.parameters()) == 27_741_952


def test_the_defaults_are_the_base_model() -> None:
    assert base().to_dict() == ElcBertConfig().to_dict()
    assert (ElcBertConfig().variant, ElcBertConfig().layer_norm_eps) == ("base", 1e-7)


def test_an_official_config_is_read_as_it_is() -> None:
    assert ElcBertConfig(**SETTINGS).position_bucket_size == 8


def refused(**settings: Any) -> str:
    """What is said of settings that cannot be."""
    with pytest.raises(InvalidValueError) as caught:
        config(**settings)
    return str(caught.value)


def test_an_unknown_variant_is_refused() -> None:
    assert refused(variant="tiny") == (
        "ElcBertConfig is not valid: `variant` must be one of 'base', 'zero', 'normalized', "
        "'weighted_output', 'ltg', but is 'tiny'."
    )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"layer_norm_eps": 0.0}, "`layer_norm_eps` must be above 0, but is 0.0"),
        ({"position_bucket_size": 7}, "`position_bucket_size` must be even, but is 7"),
        (
            {"position_bucket_size": 22},
            "`position_bucket_size` must be at most 20, but is 22: `max_position_embeddings` = 12 "
            "leave the far buckets no distance",
        ),
        ({"tie_word_embeddings": False}, "`tie_word_embeddings` must be True"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], text: str) -> None:
    assert text in refused(**settings)


def test_all_faults_are_told_at_once() -> None:
    assert refused(num_attention_heads=5, position_bucket_size=7, variant="b").count("must be") == 3


def test_the_largest_number_of_buckets_works() -> None:
    model = ElcBertModel(config(position_bucket_size=20))
    assert model(torch.zeros(1, 12, dtype=torch.long)).last_hidden_state.isfinite().all()
