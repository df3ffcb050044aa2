"""Each parameter in one group, with its own rates."""

from __future__ import annotations

import pytest
import torch

import embshare
from embshare.state import require_bank
from tests.conformance.examples import MODELS, Example


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
    config = embshare.ShareConfig(gain="channel")
    model = embshare.share_from_embedding(MODELS[-1].build(), config)
    groups = {
        group["name"]: group
        for group in embshare.parameter_groups(
            model, lr=0.01, weight_decay=0.1, projection_lr=0.5, projection_decay=0.25
        )
    }
    assert groups["projection"]["lr"] == pytest.approx(0.005)
    assert groups["projection"]["weight_decay"] == pytest.approx(0.025)
    assert groups["relaxation"]["weight_decay"] == groups["no_decay"]["weight_decay"] == 0
    assert set(groups["projection"]["params"]) == {require_bank(model).columns[0].projection}
    assert all(p.dim() < 2 for p in groups["no_decay"]["params"])


def test_frozen_parameters_are_left_out_and_dense_models_have_the_usual_two() -> None:
    model = MODELS[-1].build()
    next(model.parameters()).requires_grad_(False)
    groups = embshare.parameter_groups(model, lr=0.01)
    assert {group["name"] for group in groups} == {"decay", "no_decay"}
    kept = sum(len(group["params"]) for group in groups)
    assert kept == sum(p.requires_grad for p in model.parameters())
