"""Held to the numbers of the official code, and each deliberate mistake is seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from embshare.models import distillation, dynabert
from embshare.models.dynabert import elastic, losses, rewiring, sizing
from tests.models.dynabert.make_official import DEPTHS, WIDTHS
from tests.models.dynabert.official import arrays, batch, bert, distance, roberta, under, weights

TOLERANCE = 1e-6  # the official importances and gradients are kept in single precision
SEEN = 1e-4
SIZES = [(width, depth) for depth in DEPTHS for width in WIDTHS]


def batches() -> list[dict[str, Tensor]]:
    """Two sentences each, as the official run had them."""
    return [{name: tensor[i : i + 2] for name, tensor in batch().items()} for i in (0, 2, 4)]


def apart(model: nn.Module, folder: str, inputs: dict[str, Tensor]) -> float:
    """The worst distance of any sub-network's scores, loss or states."""
    found = []
    for width, depth in SIZES:
        official = under(f"{folder}/{width}/{depth}/")
        with dynabert.sized(model, width=width, depth=depth), torch.no_grad():
            out = model(**inputs, output_hidden_states=True)
        found += [distance(out.logits, official["logits"]), distance(out.loss, official["loss"])]
        if "states" in official:
            found.append(distance(torch.stack(out.hidden_states), official["states"]))
    return max(found)


def importance_apart(accumulate: bool = True) -> float:
    found = dynabert.importance(bert(), batches(), accumulate=accumulate)
    official = under("bert/importance/")
    return max(distance(getattr(found, name), official[name]) for name in ("heads", "neurons"))


def official_importance() -> dynabert.Importance:
    return dynabert.Importance(**under("bert/importance/"))


def rewired_apart() -> float:
    return apart(dynabert.rewire(bert(), official_importance()), "bert/rewired", batch())


def test_all_sub_networks_of_bert() -> None:
    assert apart(bert(), "bert/plain", batch()) < TOLERANCE


def test_all_sub_networks_of_roberta() -> None:
    assert apart(roberta(), "roberta/plain", under("roberta/batch/")) < 1e-12


def test_importance() -> None:
    assert importance_apart() < TOLERANCE


def test_the_official_importance_is_not_the_clean_one() -> None:
    assert importance_apart(accumulate=False) > SEEN


def test_all_sub_networks_after_rewiring() -> None:
    assert rewired_apart() < 1e-12


@cache
def teacher() -> Any:
    return bert()


def losses_apart(stage: str, states_weight: float) -> float:
    """Distance of all losses of a stage's first update, without its training loop."""
    model = dynabert.rewire(bert(), official_importance())
    inputs = {name: tensor for name, tensor in batch().items() if name != "labels"}
    with torch.no_grad():
        told = teacher()(**inputs, output_hidden_states=True)
        depths = (1.0,) if stage == "width" else DEPTHS
        found = []
        for size in dynabert.sub_networks(WIDTHS, depths):
            with dynabert.sized(model, width=size.width, depth=size.depth):
                out = model(**inputs, output_hidden_states=True)
            loss = losses.distillation_loss(
                out.logits,
                out.hidden_states,
                told.logits,
                told.hidden_states,
                size=size,
                states_weight=states_weight,
            )
            found.append(loss)
    return distance(torch.stack(found), under(f"bert/{stage}/")["losses"][0])


@pytest.mark.parametrize(("stage", "states_weight"), [("width", 0.1), ("depth", 1.0)])
def test_distillation_losses(stage: str, states_weight: float) -> None:
    assert losses_apart(stage, states_weight) < 1e-12
    assert losses_apart(stage, 1.1 - states_weight) > SEEN


# Deliberate mistakes: what is put in place of a function, and which distance sees it.


def last(
    tensor: Tensor, dim: int, count: int | None, order: Tensor | None, key: int | None = None
) -> Tensor:
    """The right-most part instead of the left-most."""
    if count is None:
        return tensor
    return tensor.narrow(dim, tensor.shape[dim] - count, count)


def ascending(scores: Tensor, group: Any) -> Tensor:
    return torch.sort(scores[list(group)].sum(0)).indices


def by_columns_of_the_head(order: Tensor, unit: int) -> Tensor:
    """Rows interleaved over heads instead of kept together."""
    return (order[None] + torch.arange(unit)[:, None] * len(order)).flatten()


def mean_of_states(student: Any, other: Any) -> Tensor:
    return distillation.state_loss(student, other) / len(student)


def without_the_last(student: Any, other: Any) -> Tensor:
    return distillation.state_loss(student[:-1], other[:-1])


def hard(student: Tensor, other: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(student, other.argmax(-1))


def reversed_divergence(student: Tensor, other: Tensor) -> Tensor:
    return distillation.soft_cross_entropy(other, student)


def warm(student: Tensor, other: Tensor) -> Tensor:
    return distillation.soft_cross_entropy(student, other, temperature=2.0)


def plain_apart() -> float:
    return apart(bert(), "bert/plain", batch())


def width_apart() -> float:
    return losses_apart("width", 0.1)


def depth_apart() -> float:
    return losses_apart("depth", 1.0)


Mistake = tuple[ModuleType, str, Any, Callable[[], float]]
MISTAKES: dict[str, Mistake] = {
    "right-most heads": (elastic, "first", last, plain_apart),
    "whole feed-forward part": (sizing, "kept_neurons", lambda m, n, w: m, plain_apart),
    "the last layers": (
        sizing,
        "kept_layers",
        lambda count, depth: tuple(range(count - round(depth * count), count)),
        plain_apart,
    ),
    "the first layers": (
        sizing,
        "kept_layers",
        lambda count, depth: tuple(range(round(depth * count))),
        plain_apart,
    ),
    "least important first": (rewiring, "_order", ascending, rewired_apart),
    "rows of heads mixed": (rewiring, "_rows", by_columns_of_the_head, rewired_apart),
    "the teacher's first states": (
        losses,
        "matched_states",
        lambda count, depth: tuple(range(round(depth * count) + 1)),
        depth_apart,
    ),
    "states of outputs, not of inputs": (
        losses,
        "matched_states",
        lambda count, depth: (0, *(i + 1 for i in dynabert.kept_layers(count, depth))),
        depth_apart,
    ),
    "mean over states": (losses, "state_loss", mean_of_states, width_apart),
    "states without the last": (losses, "state_loss", without_the_last, depth_apart),
    "the teacher's best class alone": (losses, "soft_cross_entropy", hard, width_apart),
    "student and teacher exchanged": (
        losses,
        "soft_cross_entropy",
        reversed_divergence,
        width_apart,
    ),
    "a temperature": (losses, "soft_cross_entropy", warm, width_apart),
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


@pytest.mark.parametrize("term", ["before", "after"])
def test_both_terms_of_a_neurons_importance_are_taken_apart(term: str) -> None:
    model, first = bert(), batches()[0]
    model(**first).loss.backward()
    block = model.bert.encoder.layer[1]
    up, down = block.intermediate.dense, block.output.dense
    assert up.weight.grad is not None and up.bias.grad is not None and down.weight.grad is not None
    before = (up.weight * up.weight.grad).sum(1) + up.bias * up.bias.grad
    after = (down.weight * down.weight.grad).sum(0)
    found = dynabert.importance(model, [first]).neurons[1]
    assert distance(found, before.abs() + after.abs()) < 1e-12
    assert distance(found, (before + after).abs()) > SEEN
    assert distance(found, {"before": before, "after": after}[term].abs()) > SEEN


def test_the_file_has_all_twelve_of_each() -> None:
    names = {name.rsplit("/", 1)[0] for name in under("bert/plain/")}
    assert len(names) == len(SIZES) == 12
    assert set(weights("bert")) == set(dict(bert().named_parameters()))
    assert arrays()["bert/depth/losses"].shape == (2, 12)
