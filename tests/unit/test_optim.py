"""Each parameter in one group, with its own rates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import embshare
from embshare.runtime.bank import require_bank
from tests._support.layer_examples import MODELS, Example


@pytest.mark.parametrize("example", MODELS, ids=lambda e: e.name)
def test_each_parameter_is_in_one_group(example: Example) -> None:
    config = embshare.ShareConfig(factor=5, gain="channel", residual_rank=1, column_bias=True)
    model = embshare.share_from_embedding(example.build(), config)
    groups = embshare.parameter_groups(model, lr=1e-3)
    found = [id(p) for group in groups for p in group["params"]]
    assert len(found) == len(set(found))
    assert set(found) == {id(p) for p in model.parameters()}
    torch.optim.AdamW(groups).step()


def test_rates_and_decays() -> None:
    config = embshare.ShareConfig(gain="channel", residual_rank=2)
    model = embshare.share_from_embedding(MODELS[-1].build(), config)
    groups = {
        group["name"]: group
        for group in embshare.parameter_groups(
            model, lr=0.01, weight_decay=0.1, hidden_lr=0.5, hidden_decay=0.25
        )
    }
    assert list(groups) == ["table", "hidden", "vectors"]
    assert [group["lr"] for group in groups.values()] == pytest.approx([0.01, 0.005, 0.01])
    assert [group["weight_decay"] for group in groups.values()] == pytest.approx([0.1, 0.025, 0])
    bank = require_bank(model)
    assert set(groups["table"]["params"]) == {bank.columns[0].table()}
    residuals = {p for r in bank.relaxations for p in (r.left, r.right)}
    assert set(groups["hidden"]["params"]) == {bank.columns[0].projection} | residuals
    assert {r.gain for r in bank.relaxations} < set(groups["vectors"]["params"])


def test_matrices_are_slower_than_tables_by_default() -> None:
    rates = {g["name"]: g["lr"] for g in embshare.parameter_groups(MODELS[-1].build(), lr=0.01)}
    assert rates["hidden"] == pytest.approx(0.003) and rates["table"] == rates["vectors"] == 0.01


def test_frozen_parameters_are_left_out_and_dense_models_have_the_same_groups() -> None:
    model = MODELS[-1].build()
    frozen = next(p for p in model.parameters() if p.dim() >= 2)
    frozen.requires_grad_(False)
    groups = embshare.parameter_groups(model, lr=0.01)
    found = [p for group in groups for p in group["params"]]
    assert {id(p) for p in found} == {id(p) for p in model.parameters() if p.requires_grad}


def test_a_table_that_no_embedding_holds_is_one() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Parameter(torch.randn(50, 8))
            self.layer = nn.Linear(8, 8)

    model = embshare.share_from_embedding(Bare(), embshare.ShareConfig(source="words"))
    (first, *_) = embshare.parameter_groups(model, lr=0.01)
    assert (first["name"], first["params"]) == ("table", [model.get_parameter("words")])
