"""`materialize`: what conformance does not ask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import MaterializeError, NotSharedError
from embshare.runtime.bank import Bank, bank_of, require_bank
from tests._support.layer_examples import MODELS, Example


@pytest.mark.parametrize("example", MODELS, ids=lambda e: e.name)
@pytest.mark.parametrize("inplace", [False, True])
def test_nothing_of_sharing_remains(example: Example, inplace: bool) -> None:
    dense = example.build()
    names = [name for name, _ in dense.named_parameters()]
    kinds = [type(module) for module in dense.modules()]
    shared = embshare.share_from_embedding(dense, ShareConfig(factor=5))
    plain = embshare.materialize(shared, inplace=inplace)
    assert (plain is shared) == inplace
    assert [name for name, _ in plain.named_parameters()] == names
    assert [type(module) for module in plain.modules()] == kinds
    assert bank_of(plain) is None
    assert (bank_of(shared) is None) == inplace
    for module in plain.modules():
        assert not any("embshare" in key for key in module.__dict__)
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_a_weight_that_changes_meanwhile_is_refused_and_the_model_left_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = embshare.share_from_embedding(MODELS[-1].build())
    bank, read_all = require_bank(model), Bank.read_all
    calls = []

    def moving(self: Bank) -> dict[int, Tensor]:
        calls.append(self)
        return {n: w + (0.5 if len(calls) > 1 else 0.0) for n, w in read_all(self).items()}

    monkeypatch.setattr(Bank, "read_all", moving)
    with pytest.raises(MaterializeError, match=r"of \w+` differs by 0\.5 when read again"):
        embshare.materialize(model, inplace=True)
    assert bank_of(model) is bank


def test_dense_models_are_refused() -> None:
    with pytest.raises(NotSharedError, match="is not shared"):
        embshare.materialize(nn.Linear(2, 2))


def test_frozen_weights_stay_frozen_and_own_ties_tied() -> None:
    model: Any = nn.ModuleDict({"embed": nn.Embedding(50, 8), "a": nn.Linear(8, 8, bias=False)})
    model["b"] = nn.Linear(8, 8, bias=False)
    model["b"].weight = model["a"].weight
    model["c"] = nn.Linear(8, 8, bias=False).requires_grad_(False)
    plain: Any = embshare.materialize(embshare.share_from_embedding(model))
    assert plain["a"].weight is plain["b"].weight
    assert plain["a"].weight.requires_grad and not plain["c"].weight.requires_grad


def test_shared_again_from_what_it_was() -> None:
    """Materialize, then fit: the trained weights are the start of a smaller model."""
    model = embshare.share_from_embedding(MODELS[-1].build())
    plain = embshare.materialize(model)
    again = embshare.share_from_embedding(plain, ShareConfig(init="svd"))
    for name, weight in dict(embshare.materialize(again).named_parameters()).items():
        wanted = dict(embshare.materialize(model).named_parameters())[name]
        torch.testing.assert_close(weight, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [ShareConfig(), ShareConfig(factor=4, gain="channel")])
def test_on_meta_it_has_the_shapes_of_the_plain_model(config: ShareConfig) -> None:
    dense = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 8), nn.LSTM(8, 8))
    shapes = {name: parameter.shape for name, parameter in dense.named_parameters()}
    shared = embshare.share_from_embedding(dense, config).to("meta")
    out, _ = shared(torch.zeros(5, 2, dtype=torch.long, device="meta"))
    assert (out.shape, out.device.type) == ((5, 2, 8), "meta")
    plain = embshare.materialize(shared)
    assert {name: p.shape for name, p in plain.named_parameters()} == shapes
    assert {p.device.type for p in plain.parameters()} == {"meta"}
