"""Settings, sizes and plans: what is published, and what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from embshare.errors import InvalidValueError
from embshare.models.sharebert import (
    PRESETS,
    ShareBertConfig,
    ShareBertForMaskedLM,
    ShareBertForSequenceClassification,
    ShareBertModel,
    base,
    large,
    sharebert_plan,
    small,
)
from tests.integration.models.sharebert.make_official import SETTINGS
from tests.integration.models.sharebert.official import config

COUNTS = {  # factor: encoder, with a 2-class head, with the masked language model's head
    small: (4_983_040, 4_987_138, 71_735_360),
    base: (13_847_296, 13_851_394, 80_599_616),
    large: (27_008_512, 27_012_610, 93_760_832),
}
ENCODERS_OF_30522 = {small: 4_982_272, base: 13_844_992, large: 27_003_904}


def stored(kind: Any, settings: ShareBertConfig) -> int:
    """Parameters of a model that is built without memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in kind(settings).parameters())


@pytest.mark.parametrize("preset", COUNTS)
def test_parameters_are_as_many_as_officially(preset: Any) -> None:
    kinds = (ShareBertModel, ShareBertForSequenceClassification, ShareBertForMaskedLM)
    assert tuple(stored(kind, preset(30_528)) for kind in kinds) == COUNTS[preset]
    assert stored(ShareBertModel, preset()) == ENCODERS_OF_30522[preset]
    with torch.device("meta"):
        sizes = [tuple(p.shape) for p in ShareBertModel(preset()).parameters()]
    assert (2048, 2048) not in sizes, "no matrix of a layer is stored"


def test_the_presets_are_the_published_models() -> None:
    assert [preset().factor_size for preset in PRESETS.values()] == [128, 384, 768]
    assert [preset().num_hidden_layers for preset in PRESETS.values()] == [12, 12, 6]
    assert list(PRESETS) == ["small", "base", "large"]
    assert small().to_dict() == ShareBertConfig().to_dict()


@pytest.mark.parametrize("rows", [30_522, 30_528])
def test_columns_are_the_published_ones(rows: int) -> None:
    plan = sharebert_plan(small(rows))
    assert [(slot.start, slot.stop - 1) for slot in plan.slots] == [
        (1910, 2047),
        (1772, 1909),
        (1634, 1771),
        (1359, 1633),
        (1084, 1358),
        (946, 1083),
        (808, 945),
    ]
    readers = [slot.weights[0].removeprefix("encoder.layers.0.") for slot in plan.slots]
    assert readers == [
        *(f"{name}.weight" for name in ("query", "key", "value", "up", "down", "output")),
        "pooler.dense.weight",
    ]
    assert [len(slot.weights) for slot in plan.slots] == [12] * 6 + [1]
    assert plan.unused_columns() == 808
    assert all(slot.transposed and slot.gain == 1 for slot in plan.slots)
    assert {slot.delta for slot in plan.slots} == (
        {18_560, 6_592} if rows == 30_528 else {17_732, 4_942}
    )


def refused(**settings: Any) -> str:
    """What is said of settings that cannot be."""
    with pytest.raises(InvalidValueError) as caught:
        config(**settings)
    return str(caught.value)


def test_columns_that_do_not_fit_are_refused() -> None:
    assert refused(vocab_size=200) == (
        "ShareBertConfig is not valid: the seven matrices need 27 columns of the 24 that "
        "`hidden_size` gives: a `vocab_size` of 216 (5 hidden_size + 2 intermediate_size) or a "
        "little more is enough."
    )


def test_the_way_out_of_too_few_columns_is_one() -> None:
    for hidden, inner in ((24, 48), (64, 128), (2048, 4096), (768, 3072)):
        rows = 5 * hidden + 2 * inner
        enough = next(v for v in range(rows, 2 * rows) if fits(v, hidden, inner))
        assert enough <= 1.5 * rows


def fits(rows: int, hidden: int, inner: int) -> bool:
    """Whether a vocabulary is large enough."""
    try:
        ShareBertConfig(
            vocab_size=rows,
            hidden_size=hidden,
            intermediate_size=inner,
            num_attention_heads=1,
            factor_size=8,
        )
    except InvalidValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"factor_size": 30}, "`factor_size` must be at most `hidden_size` = 24, but is 30"),
        ({"source_rows": 301}, "`source_rows` must be from 1 to `vocab_size` = 300, but is 301"),
        ({"encoder_ln_mode": "post-ln"}, "`encoder_ln_mode` must be 'pre-ln', but is 'post-ln'"),
        ({"layernorm_embedding": True}, "`layernorm_embedding` must be False, but is True"),
        ({"layer_norm_type": "rms_norm"}, "`layer_norm_type` must be 'pytorch'"),
        ({"hidden_act": "relu"}, "`hidden_act` must be 'gelu', but is 'relu'"),
        ({"tie_word_embeddings": True}, "`tie_word_embeddings` must be False, but is True"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], text: str) -> None:
    assert text in refused(**settings)


def test_all_faults_are_told_at_once() -> None:
    text = refused(num_attention_heads=5, factor_size=30, encoder_ln_mode="post-ln")
    assert text.count("must be") == 3


def test_an_official_config_is_read_as_it_is() -> None:
    official = SETTINGS | {
        "encoder_ln_mode": "pre-ln",
        "layer_norm_type": "apex",
        "useLN": True,
        "hidden_act": "gelu",
        "layernorm_embedding": False,
    }
    assert ShareBertConfig(**official).factor_size == 8
