"""What tied layers pick of their weight is picked once, and has the gradient of an index."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import embshare
from embshare.models import dynabert
from embshare.models.dynabert import elastic
from embshare.models.dynabert.elastic import pick
from tests.integration.models.dynabert.examples import batch, model


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dim", [0, 1])
def test_it_is_an_index(dim: int, transposed: bool) -> None:
    table = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    order = torch.randperm(8 if transposed != bool(dim) else 6)

    def both(source: torch.Tensor) -> torch.Tensor:
        weight = (source * 2).t() if transposed else source * 2
        return pick(weight, dim, 3, order, 1)

    weight = (table * 2).t() if transposed else table * 2
    assert torch.equal(both(table), weight.index_select(dim, order[:3]))
    assert torch.autograd.gradcheck(both, (table,))
    assert torch.autograd.gradgradcheck(both, (table,))


def test_it_is_picked_once_of_each_tensor() -> None:
    weight, order = torch.randn(4, 4) * 1.0, torch.randperm(4)
    found = pick(weight, 0, 2, order, 1)
    assert pick(weight, 0, 2, order, 1) is found
    assert pick(weight, 0, 3, order, 1) is not found
    assert pick(weight, 1, 2, order, 1) is not found
    assert pick(weight, 0, 2, order.flip(0), 2) is not found
    assert pick(weight.clone(), 0, 2, order, 1) is not found


def picks(made: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    apply = elastic._Pick.apply

    def count(weight: Any, dim: int, index: Any) -> Any:
        seen.append(dim)
        return apply(weight, dim, index)

    monkeypatch.setattr(elastic._Pick, "apply", count)
    with dynabert.sized(made, width=0.5, depth=0.75):
        made(**batch()).loss.backward()
    return seen


@pytest.mark.parametrize(("sharing", "expected"), [("tied", 6), ("cycle", 12), ("untied", 18)])
def test_tied_layers_pick_once(
    sharing: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model(sharing=sharing)
    dynabert.rewire(made, dynabert.importance(made, [batch()]))
    assert len(picks(made, monkeypatch)) == expected  # of six matrices in each of three layers


def test_what_is_kept_across_calls_is_current() -> None:
    made = model(sharing="tied")
    dynabert.rewire(made, dynabert.importance(made, [batch()]))
    other = dynabert.importance(made, [batch()], accumulate=False)
    turned = dynabert.Importance(heads=-other.heads, neurons=-other.neurons)
    with torch.no_grad(), embshare.cached(made), dynabert.sized(made, width=0.5):
        first = made(**batch()).logits
        assert torch.equal(made(**batch()).logits, first)
        dynabert.rewire(made, turned)  # another order of the same weights
        second = made(**batch()).logits
    assert not torch.allclose(first, second, atol=1e-3)
    with torch.no_grad(), dynabert.sized(made, width=0.5):
        assert torch.allclose(made(**batch()).logits, second, atol=1e-6)
        made.bert.embeddings.word_embeddings.weight.mul_(1.1)
        assert not torch.allclose(made(**batch()).logits, second, atol=1e-3)


def test_what_was_picked_without_gradients_has_them_later() -> None:
    made = model(sharing="tied")
    dynabert.rewire(made, dynabert.importance(made, [batch()]))
    table, found = made.bert.embeddings.word_embeddings.weight, []
    for before in (False, True):
        made.zero_grad()
        with embshare.cached(made), dynabert.sized(made, width=0.5):
            if before:
                with torch.no_grad():
                    made(**batch())
            made(**batch()).loss.backward()
        found.append(table.grad.clone())
    assert torch.allclose(found[0], found[1])
