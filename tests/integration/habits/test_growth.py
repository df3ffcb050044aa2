"""Growth: a plan that stores more than the model does says so, with both numbers."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import embshare
from embshare import ShareConfig
from embshare.errors import GrowthWarning, NothingToShareError, SourceTooSmallError
from tests._support.habit_models import LM, VOCABULARY, WIDTH, out, shared


def test_images_read_from_a_classifier_of_few_classes_are_warned_of() -> None:
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        model = torchvision.models.resnet18(num_classes=50)
    dense = sum(p.numel() for p in model.parameters())
    with pytest.warns(GrowthWarning, match=rf"stores 81,\d+,\d+ parameters, .* has {dense:,}: it"):
        embshare.plan_sharing(model, ShareConfig(source="fc.weight"))


@pytest.mark.parametrize("rank", [13, 1000])
def test_a_residual_above_a_matrixs_side_leaves_it_dense(rank: int) -> None:
    with pytest.raises(NothingToShareError, match=rf"residual of rank {rank} is above its smaller"):
        embshare.plan_sharing(LM(), ShareConfig(residual_rank=rank))


def test_a_residual_of_full_rank_is_allowed_and_warned_of() -> None:
    with pytest.warns(GrowthWarning, match="lower the rank of the residual"):
        embshare.plan_sharing(LM(), ShareConfig(residual_rank=WIDTH))


def test_the_numbers_of_the_warning_are_those_of_the_model() -> None:
    model: Any = nn.ModuleDict({"embed": nn.Embedding(3, 8), "layer": nn.Linear(8, 8)})
    dense = sum(p.numel() for p in model.parameters())
    with pytest.warns(GrowthWarning) as given:
        embshare.share_from_embedding(model)
    stored = sum(p.numel() for p in model.parameters())
    assert f"stores {stored:,} parameters" in str(given[0].message)
    assert f"has {dense:,}" in str(given[0].message)


@pytest.mark.parametrize(
    "config",
    [
        ShareConfig(),
        ShareConfig(factor=5),
        ShareConfig(residual_rank=1),
        ShareConfig(gain="channel"),
        ShareConfig(tie="none"),
    ],
    ids=str,
)
def test_a_plan_that_shrinks_the_model_is_not_warned_of(config: ShareConfig) -> None:
    dense = sum(p.numel() for p in LM().parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = shared(config)
    assert sum(p.numel() for p in model.parameters()) < dense


def test_a_tiny_vocabulary_is_warned_of() -> None:
    """Characters or nucleotides: a table of four rows is no source for wide layers."""
    model = nn.ModuleDict({"embed": nn.Embedding(4, 64), "layer": nn.Linear(64, 64)})
    with pytest.warns(GrowthWarning, match="Name a table of more rows"):
        embshare.plan_sharing(model)


def test_a_factor_as_wide_as_the_table_is_warned_of() -> None:
    model: Any = LM()
    model.enc = nn.Sequential(nn.Linear(WIDTH, 2))
    model.head = nn.Linear(2, 3)
    with pytest.warns(GrowthWarning, match="it grows"):
        embshare.plan_sharing(model, ShareConfig(factor=WIDTH))


def test_a_wider_projection_than_is_used_is_counted() -> None:
    with pytest.warns(GrowthWarning):
        embshare.plan_sharing(LM(), ShareConfig(width=500))


def test_a_table_with_too_few_columns_says_what_is_needed() -> None:
    with pytest.raises(SourceTooSmallError, match=r"must have 14 columns .*veps"):
        embshare.plan_sharing(LM(), ShareConfig(method="eps"))


def test_a_vocabulary_may_grow_after_sharing_and_weights_stay() -> None:
    model = shared()
    before = model.head.weight.clone()
    rows = torch.cat([model.embed.weight.detach(), torch.zeros(1000, WIDTH)])
    model.embed.weight = nn.Parameter(rows)
    assert torch.equal(model.head.weight, before)
    summary = embshare.summarize(model)
    assert summary.stored == sum(p.numel() for p in model.parameters())
    assert out(model).shape[-1] == VOCABULARY
