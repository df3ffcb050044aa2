"""Held to the numbers of the official code, and each deliberate mistake is seen."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from embshare.models import dynabert
from embshare.models.dynabert import elastic, rewiring, sizes
from tests.integration.models.dynabert.official import (
    arrays,
    batch,
    bert,
    distance,
    official_importance,
    roberta,
    under,
    weights,
)

TOLERANCE = 1e-6  # the official importances are kept in single precision
SEEN = 1e-4


def batches() -> list[dict[str, Tensor]]:
    """Two sentences each, as the official run had them."""
    return [{name: tensor[i : i + 2] for name, tensor in batch().items()} for i in (0, 2, 4)]


def apart(model: nn.Module, folder: str, inputs: dict[str, Tensor]) -> float:
    """The worst distance of any sub-network's logits, loss or states."""
    found = []
    for size in dynabert.sub_networks():
        official = under(f"{folder}/{size.width}/{size.depth}/")
        with dynabert.sized(model, width=size.width, depth=size.depth), torch.no_grad():
            out = model(**inputs, output_hidden_states=True)
        found += [distance(out.logits, official["logits"]), distance(out.loss, official["loss"])]
        if "states" in official:
            found.append(distance(torch.stack(out.hidden_states), official["states"]))
    return max(found)


def plain_apart() -> float:
    return apart(bert(), "bert/plain", batch())


def rewired_apart() -> float:
    return apart(dynabert.rewire(bert(), official_importance()), "bert/rewired", batch())


def importance_apart(accumulate: bool = True) -> float:
    found, official = dynabert.importance(bert(), batches(), accumulate=accumulate), arrays()
    return max(
        distance(getattr(found, name), official[f"bert/importance/{name}"])
        for name in ("heads", "neurons")
    )


def test_all_sub_networks() -> None:
    assert plain_apart() < TOLERANCE
    assert apart(roberta(), "roberta/plain", under("roberta/batch/")) < 1e-12
    assert rewired_apart() < 1e-12


def test_importance() -> None:
    assert importance_apart() < TOLERANCE
    assert importance_apart(accumulate=False) > SEEN  # the official one is not the clean one


# Deliberate mistakes: what is put in place of a function, and which distance sees it.


def last(
    tensor: Tensor, dim: int, count: int | None, order: Tensor | None, key: int | None = None
) -> Tensor:
    """The right-most part instead of the left-most."""
    return tensor if count is None else tensor.narrow(dim, tensor.shape[dim] - count, count)


def last_layers(count: int, depth: float) -> tuple[int, ...]:
    return tuple(range(count - round(depth * count), count))


def first_layers(count: int, depth: float) -> tuple[int, ...]:
    return tuple(range(round(depth * count)))


def ascending(scores: Tensor, group: Any) -> Tensor:
    return torch.sort(scores[list(group)].sum(0)).indices


def by_columns_of_the_head(order: Tensor, unit: int) -> Tensor:
    """Rows interleaved over heads instead of kept together."""
    return (order[None] + torch.arange(unit)[:, None] * len(order)).flatten()


Mistake = tuple[ModuleType, str, Any, Callable[[], float]]
MISTAKES: dict[str, Mistake] = {
    "right-most heads": (elastic, "first", last, plain_apart),
    "whole feed-forward part": (sizes, "kept_neurons", lambda m, n, w: m, plain_apart),
    "the last layers": (sizes, "kept_layers", last_layers, plain_apart),
    "the first layers": (sizes, "kept_layers", first_layers, plain_apart),
    "least important first": (rewiring, "_order", ascending, rewired_apart),
    "rows of heads mixed": (rewiring, "_rows", by_columns_of_the_head, rewired_apart),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, wrong, look = MISTAKES[mistake]
    monkeypatch.setattr(module, name, wrong)
    assert look() > SEEN


def test_a_head_keeps_its_width_and_its_scale() -> None:
    model = bert()
    for layer in model.bert.encoder.layer:
        layer.attention.self.scaling = 16**-0.5  # as if one head had the whole width
    assert apart(model, "bert/plain", batch()) > SEEN


def test_states_of_the_embeddings_layer_are_the_first() -> None:
    model = bert()
    with dynabert.sized(model, width=0.25, depth=0.5), torch.no_grad():
        states = model(**batch(), output_hidden_states=True).hidden_states
        embedded = model.bert.embeddings(batch()["input_ids"], batch()["token_type_ids"])
    assert len(states) == 3
    assert torch.equal(states[0], embedded)


def test_both_terms_of_a_neurons_importance_are_taken_apart() -> None:
    model, first = bert(), batches()[0]
    model(**first).loss.backward()
    block = model.bert.encoder.layer[1]
    up, down = block.intermediate.dense, block.output.dense
    before = (up.weight * up.weight.grad).sum(1) + up.bias * up.bias.grad
    after = (down.weight * down.weight.grad).sum(0)
    found = dynabert.importance(model, [first]).neurons[1]
    assert distance(found, before.abs() + after.abs()) < 1e-12
    for wrong in (before + after, before, after):
        assert distance(found, wrong.abs()) > SEEN


def test_the_file_has_all_twelve_of_each() -> None:
    names = {name.rsplit("/", 1)[0] for name in under("bert/plain/")}
    assert len(names) == 12
    assert set(weights("bert")) == set(dict(bert().named_parameters()))
    assert arrays()["bert/depth/losses"].shape == (2, 12)
