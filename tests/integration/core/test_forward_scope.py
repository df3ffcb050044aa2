"""What covers a module's forward, and what others see of it and put over it."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare.runtime.bank import require_bank
from embshare.runtime.forward_scope import Call

IDS = torch.arange(6)


class Pair(nn.Module):
    """Two layers; on its own it is an outermost call."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)

    def forward(self, x: Tensor, scale: float = 1.0, *, shift: float = 0.0) -> Tensor:
        """Twice."""
        found: Tensor = self.second(self.first(x)) * scale + shift
        return found


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.pair = Pair()

    def forward(self, ids: Tensor, labels: Tensor | None = None) -> Tensor:
        found: Tensor = self.pair(self.embed(ids), shift=0.5)
        return found


def shared() -> Model:
    torch.manual_seed(0)
    return embshare.share_from_embedding(Model())


def evaluations(model: nn.Module, run: Any) -> int:
    bank = require_bank(model)
    bank.evaluations = 0
    run()
    placed = any(n in m.__dict__ for r in bank.readers for m, n in r.places)
    assert not bank.cache._scopes and not placed
    return bank.evaluations


def test_no_module_is_hooked() -> None:
    for module in shared().modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_forward_and_submodules_open_a_call() -> None:
    model = shared()
    x = torch.randn(3, 8)
    assert evaluations(model, lambda: model(IDS)) == 1
    assert evaluations(model, lambda: model.forward(IDS)) == 1
    assert evaluations(model, lambda: model.pair(x)) == 1


def test_it_has_the_signature_of_the_forward_that_it_covers() -> None:
    model = shared()
    for module in (model, model.pair):
        plain = MethodType(type(module).forward, module)
        assert isinstance(module.forward, Call)
        assert inspect.signature(module.forward) == inspect.signature(plain)
        again = MethodType(module.forward.__func__, module)
        assert inspect.signature(again) == inspect.signature(plain)
        covered = functools.update_wrapper(lambda *args: None, module.forward)
        assert inspect.signature(covered) == inspect.signature(plain)
        assert (module.forward.__doc__, module.forward.__name__) == (plain.__doc__, "forward")
        assert module.forward.__self__ is module


@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_call_themselves(way: Any) -> None:
    model = shared()
    twin = way(model)
    assert twin.forward.__self__ is twin and twin.pair.forward.__self__ is twin.pair
    assert torch.equal(twin(IDS), model(IDS))
    assert evaluations(model, lambda: twin(IDS)) == 0


def test_an_exception_ends_the_call() -> None:
    model = shared()
    with pytest.raises(IndexError):
        model(torch.tensor([77]))
    assert evaluations(model, lambda: model(IDS)) == 1
    model.embed.weight.data = torch.ones(10, 8)
    for _ in range(2):
        with pytest.raises(embshare.EmbshareError, match="at least 50 rows"):
            model(IDS)
        assert not require_bank(model).cache._scopes


def test_a_forward_of_an_instances_own_is_kept() -> None:
    model = Model()

    def twice(self: Pair, x: Tensor, shift: float = 0.0) -> Tensor:
        return 2 * Pair.forward(self, x, shift=shift)

    own = MethodType(twice, model.pair)
    model.pair.forward = own  # type: ignore[method-assign]
    embshare.share_from_embedding(model)
    assert inspect.signature(model.pair.forward) == inspect.signature(own)
    x = torch.randn(3, 8)
    wanted = 2 * Pair.forward(model.pair, x)  # derives each weight by itself: other rounding
    torch.testing.assert_close(model.pair(x), wanted)
    assert evaluations(model, lambda: model.pair(x)) == 1
    twin = copy.deepcopy(model)
    assert torch.equal(twin.pair(x), model.pair(x))
    assert evaluations(twin, lambda: twin.pair(x)) == 1
    plain = embshare.materialize(model)
    assert plain.pair.__dict__["forward"].__func__ is twice
    torch.testing.assert_close(plain.pair(x), wanted)


def test_a_forward_that_is_put_over_it_may_stay_when_the_model_is_made_plain() -> None:
    model = shared()
    wanted = model(IDS)
    inner = model.pair.forward
    model.pair.forward = lambda *args, **kwargs: inner(*args, **kwargs)  # type: ignore[method-assign]
    assert evaluations(model, lambda: model.pair(torch.randn(3, 8))) == 1
    embshare.materialize(model, inplace=True)
    assert "forward" not in model.__dict__
    torch.testing.assert_close(model(IDS), wanted)


def test_accelerates_hooks_come_and_go() -> None:
    hooks = pytest.importorskip("accelerate.hooks")
    model = shared()
    wanted, cover = model(IDS), model.pair.forward
    hooks.add_hook_to_module(model.pair, hooks.ModelHook())
    assert inspect.signature(model.pair.forward) == inspect.signature(cover)
    assert torch.equal(model(IDS), wanted)
    x = torch.randn(3, 8)
    assert evaluations(model, lambda: model.pair(x)) == 1
    twin = copy.deepcopy(model)
    assert torch.equal(twin(IDS), wanted)
    hooks.remove_hook_from_module(model.pair)
    assert model.pair.forward is cover
    assert evaluations(model, lambda: model.pair(x)) == 1


def test_accelerates_mixed_precision_comes_and_goes() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)  # of other tests
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    try:
        model = shared()
        wanted = model(IDS)
        prepared = accelerator.prepare(model)
        found = prepared(IDS)
        assert found.dtype is torch.float32 and not torch.equal(found, wanted)
        assert evaluations(model, lambda: prepared(IDS)) == 1
        assert list(inspect.signature(prepared.forward).parameters) == ["ids", "labels"]
        plain = accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
        assert torch.equal(plain(IDS), wanted)
        assert evaluations(plain, lambda: plain(IDS)) == 1
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
