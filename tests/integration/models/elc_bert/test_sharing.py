"""It is ordinary layers, so it is shared as any other model is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare.models.elc_bert import ElcBertConfig, ElcBertForMaskedLM, ElcBertModel, base, small
from embshare.models.elc_bert.config import VARIANTS
from tests.integration.models.elc_bert.official import batch, config

CONFIGS = {
    "tied": embshare.ShareConfig(),
    "untied": embshare.ShareConfig(tie="none"),
    "factor": embshare.ShareConfig(factor=4),
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_config = pytest.mark.parametrize("sharing", CONFIGS)


def shared(variant: str, sharing: str) -> Any:
    """A masked language model of a test's size, shared."""
    torch.manual_seed(0)
    return embshare.share_from_embedding(ElcBertForMaskedLM(config(variant)), CONFIGS[sharing])


def test_it_is_made_of_layers_that_can_be_shared() -> None:
    plan = embshare.plan_sharing(ElcBertForMaskedLM(config()), CONFIGS["tied"])
    assert [source.name for source in plan.sources] == ["bert.embeddings.word_embeddings.weight"]
    readers = [slot.weights[0].removeprefix("bert.encoder.layers.0.") for slot in plan.slots]
    assert readers == [
        *(f"attention.{name}.weight" for name in ("query_key", "value", "output")),
        *(f"feed_forward.{name}.weight" for name in ("up", "down")),
        "transform.dense.weight",
    ]
    assert [len(slot.weights) for slot in plan.slots] == [3] * 5 + [1]


@every_variant
@every_config
def test_it_stores_less_and_trains(variant: str, sharing: str) -> None:
    model = shared(variant, sharing)
    summary = embshare.summarize(model)
    stored = sum(parameter.numel() for parameter in model.parameters())
    assert summary.stored == stored < summary.stored_before / 2
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = model.train()(**batch()).loss
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@every_variant
@every_config
def test_it_becomes_plain_again(variant: str, sharing: str) -> None:
    model = shared(variant, sharing).eval()
    plain = embshare.materialize(model)
    before = ElcBertForMaskedLM(config(variant))
    assert [type(part) for part in plain.modules()] == [type(part) for part in before.modules()]
    assert plain.state_dict().keys() == before.state_dict().keys()
    assert plain.decoder.weight is plain.bert.embeddings.word_embeddings.weight
    torch.testing.assert_close(plain(**batch()).logits, model(**batch()).logits)


@every_variant
@every_config
def test_it_is_saved_and_loaded(variant: str, sharing: str, tmp_path: Path) -> None:
    model = shared(variant, sharing).eval()
    embshare.save(model, tmp_path)
    loaded = embshare.load(tmp_path, ElcBertForMaskedLM(config(variant))).eval()
    assert torch.equal(loaded(**batch()).logits, model(**batch()).logits)


def test_relative_positions_are_shared_only_by_name() -> None:
    name = "bert.embeddings.relative"
    plan = embshare.plan_sharing(ElcBertForMaskedLM(config()), CONFIGS["tied"])
    assert not any(name in slot.weights for slot in plan.slots)
    wanted = embshare.ShareConfig(include=("*.relative", "*.attention.*"))
    model = embshare.share_from_embedding(ElcBertForMaskedLM(config()), wanted)
    assert name not in dict(model.named_parameters())
    assert model(**batch()).loss.isfinite()


@pytest.mark.parametrize(("preset", "stored"), [(base, 13_064_782), (small, 2_538_318)])
def test_the_published_models_store_a_part_of_theirs(
    preset: Callable[[], ElcBertConfig], stored: int
) -> None:
    with torch.device("meta"):
        model = ElcBertForMaskedLM(preset())
        embshare.share_from_embedding(model, CONFIGS["tied"], start=False)
    assert sum(parameter.numel() for parameter in model.parameters()) == stored


def test_an_encoder_alone_is_shared_too() -> None:
    model: nn.Module = embshare.share_from_embedding(ElcBertModel(config()), CONFIGS["tied"])
    assert "encoder.layers.0.attention.value.weight" not in model.state_dict()
