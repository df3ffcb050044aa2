"""The most important first, and what that means where layers read one weight."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import embshare
from embshare.errors import InvalidValueError
from embshare.models import dynabert
from embshare.models.dynabert.blocks import blocks
from embshare.models.dynabert.rewiring import tied_groups
from embshare.runtime.bank import require_bank
from tests.integration.models.dynabert.examples import SHARING, batch, model

every_sharing = pytest.mark.parametrize("sharing", SHARING)
DERIVED = [name for name in SHARING if name not in ("plain", "eps")]


def drawn(seed: int = 0) -> dynabert.Importance:
    generator = torch.Generator().manual_seed(seed)
    return dynabert.Importance(
        heads=torch.rand(4, 4, generator=generator), neurons=torch.rand(4, 24, generator=generator)
    )


@torch.no_grad()
def logits(made: Any, **size: Any) -> Tensor:
    with dynabert.sized(made, **size):
        found: Tensor = made(**batch(labels=False)).logits
    return found


@every_sharing
def test_the_whole_model_computes_what_it_did(sharing: str) -> None:
    made = model(sharing=sharing)
    state, whole, half = copy.deepcopy(made.state_dict()), logits(made), logits(made, width=0.5)
    assert dynabert.rewire(made, drawn()) is made
    assert torch.allclose(logits(made), whole, atol=1e-5)
    assert not torch.allclose(logits(made, width=0.5), half, atol=1e-3)
    if sharing in DERIVED:  # bit for bit
        assert torch.equal(logits(made), whole)
        assert made.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in made.state_dict().items())


def test_a_plain_model_keeps_its_parameters_and_remembers_nothing() -> None:
    made = model()
    before = {name: id(parameter) for name, parameter in made.named_parameters()}
    described = made.config.to_dict()
    dynabert.rewire(made, drawn())
    assert {name: id(parameter) for name, parameter in made.named_parameters()} == before
    assert made.config.to_dict() == described
    assert not [name for name, _ in made.named_buffers() if "order" in name]


@pytest.mark.parametrize("sharing", ["plain", "untied"])
def test_a_narrow_model_has_the_most_important_parts(sharing: str) -> None:
    """What is left at a quarter is what masking everything else leaves of the whole."""
    made, found = model(sharing=sharing), drawn()
    masked = embshare.materialize(made) if sharing != "plain" else copy.deepcopy(made)
    with torch.no_grad():
        for block, heads, neurons in zip(blocks(masked), found.heads, found.neurons, strict=True):
            gone = torch.ones(4, dtype=torch.bool)
            gone[heads.argmax()] = False
            block.attention.outer.weight[:, gone.repeat_interleave(4)] = 0
            gone = torch.ones(24, dtype=torch.bool)
            gone[neurons.topk(6).indices] = False
            block.feed_forward.outer.weight[:, gone] = 0
    dynabert.rewire(made, found)
    assert torch.allclose(logits(made, width=0.25), logits(masked), atol=1e-5)


def test_layers_that_read_one_weight_are_cut_alike() -> None:
    """By the sum of their importances; so the sub-network too reads one weight in all layers."""
    made, found = model(sharing="tied"), drawn()
    dynabert.rewire(made, found)
    best = int(found.heads.sum(0).argmax())
    wanted = torch.arange(4 * best, 4 * best + 4)
    with dynabert.sized(made, width=0.25):
        queries: list[Any] = [block.attention.inner[0] for block in blocks(made)]
        used = [query.used()[0] for query in queries]
    for weight in used[1:]:
        assert torch.equal(weight, used[0])
    assert all(torch.equal(query.row_order[:4], wanted) for query in queries)
    assert len(made.config.dynabert_order["heads"]["orders"]) == 1


def test_untied_layers_have_orders_of_their_own() -> None:
    made = dynabert.rewire(model(sharing="untied"), drawn())
    assert made.config.dynabert_order["heads"]["of"] == [0, 1, 2, 3]
    made = dynabert.rewire(model(sharing="cycle"), drawn())
    assert made.config.dynabert_order["neurons"]["of"] == [0, 1, 0, 1]


def test_what_sharing_left_dense_is_cut_like_what_it_is_tied_to() -> None:
    config = embshare.ShareConfig(exclude=("*value*", "*intermediate*", "*output.dense*"))
    made = embshare.share_from_embedding(model(), config)
    whole = logits(made)
    dynabert.rewire(made, drawn())
    # Queries and keys are derived, so attention keeps an order; the feed-forward part is permuted.
    assert torch.allclose(logits(made), whole, atol=1e-5)
    assert made.config.dynabert_order["heads"]["of"] == [0] * 4
    assert made.config.dynabert_order["neurons"]["of"] == [None] * 4
    found = blocks(made)
    assert tied_groups([block.attention for block in found]) == ((0, 1, 2, 3),)
    assert tied_groups([block.feed_forward for block in found]) == ((0,), (1,), (2,), (3,))


def test_ordinary_tied_parameters_are_permuted_once() -> None:
    made = model()
    first, third = (made.bert.encoder.layer[index] for index in (0, 2))
    third.intermediate.dense.weight = first.intermediate.dense.weight
    third.output.dense.weight = first.output.dense.weight
    whole = logits(made)
    dynabert.rewire(made, drawn())
    assert torch.allclose(logits(made), whole, atol=1e-5)
    assert tied_groups([block.feed_forward for block in blocks(made)]) == ((0, 2), (1,), (3,))


@every_sharing
def test_rewiring_again_is_rewiring_anew(sharing: str) -> None:
    once, twice = model(sharing=sharing), model(sharing=sharing)
    batches = [batch()]
    dynabert.rewire(twice, drawn(5))
    dynabert.rewire(once, dynabert.importance(once, batches))
    dynabert.rewire(twice, dynabert.importance(twice, batches))
    assert torch.allclose(logits(once, width=0.5), logits(twice, width=0.5), atol=1e-5)


def test_a_materialized_model_is_rewired_as_a_plain_one() -> None:
    made = model(sharing="tied")
    plain = embshare.materialize(dynabert.rewire(made, drawn(5)))
    assert torch.allclose(logits(plain, width=0.5), logits(made, width=0.5), atol=1e-5)
    fresh = embshare.materialize(model(sharing="tied"))
    for each in (plain, fresh):
        dynabert.rewire(each, drawn())
    assert torch.allclose(logits(plain, width=0.5), logits(fresh, width=0.5), atol=1e-5)
    assert not hasattr(plain.config, "dynabert_order")


@every_sharing
def test_importance_of_a_shared_model_is_that_of_the_plain_one(sharing: str) -> None:
    made = model(sharing=sharing)
    plain = copy.deepcopy(made) if sharing == "plain" else embshare.materialize(made)
    batches = [batch(), {name: tensor[:1] for name, tensor in batch().items()}]
    ours, theirs = (dynabert.importance(each, batches) for each in (made, plain))
    assert torch.allclose(ours.heads, theirs.heads, rtol=1e-4, atol=1e-6)
    assert torch.allclose(ours.neurons, theirs.neurons, rtol=1e-4, atol=1e-6)


def test_a_size_and_an_order_derive_nothing() -> None:
    made = model(sharing="tied")
    bank = require_bank(made)
    before = bank.evaluations
    dynabert.rewire(made, drawn())
    with dynabert.sized(made, width=0.5, depth=0.5):
        assert bank.evaluations == before
        logits(made, width=0.5)
    assert bank.evaluations == before + 1


def test_importance_changes_nothing() -> None:
    made = model().train()
    made.bert.encoder.eval()  # modes are set back one by one
    made(**batch()).loss.backward()
    before = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    with dynabert.sized(made, width=0.5, depth=0.5):
        found = dynabert.importance(made, [batch()])
    assert found.heads.shape == (4, 4) and found.neurons.shape == (4, 24)
    assert (found.heads > 0).all()  # of the whole model
    assert all(torch.equal(p.grad, before[n]) for n, p in made.named_parameters() if n in before)
    assert made.training and not made.bert.encoder.training
    hooks = [
        len(m._forward_hooks) + len(m._forward_pre_hooks) for m in blocks(made)[0].attention.layers
    ]
    assert not any(hooks)


def test_importance_needs_no_trainable_parameter() -> None:
    made = model()
    wanted = dynabert.importance(made, [batch()])
    found = dynabert.importance(made.requires_grad_(False), [batch()])
    assert torch.allclose(found.neurons, wanted.neurons)


def test_accumulating_and_clean_importance() -> None:
    made = model()
    rows = [{name: tensor[i : i + 1] for name, tensor in batch().items()} for i in range(3)]
    single = [dynabert.importance(made, [row]).heads for row in rows]
    clean = dynabert.importance(made, rows, accumulate=False).heads
    assert torch.allclose(clean, torch.stack(single).sum(0), rtol=1e-5)
    official = dynabert.importance(made, rows).heads
    assert not torch.allclose(official, clean, rtol=1e-2)
    assert torch.allclose(dynabert.importance(made, rows[:1]).heads, single[0])
    backward = dynabert.importance(made, rows[::-1]).heads
    assert not torch.allclose(official, backward, rtol=1e-2)  # the order of batches matters


def test_importance_of_nothing() -> None:
    with pytest.raises(InvalidValueError, match="there must be at least one"):
        dynabert.importance(model(), [])
    with pytest.raises(InvalidValueError, match="a finite `loss`, but there is none: give it `la"):
        dynabert.importance(model(), [batch(labels=False)])
    broken = model()
    broken.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(InvalidValueError, match="a finite `loss`, but it is nan"):
        dynabert.importance(broken, [batch()])


def test_an_importance_of_another_model() -> None:
    wrong = dynabert.Importance(heads=torch.ones(4, 3), neurons=torch.full((4, 24), torch.nan))
    with pytest.raises(InvalidValueError) as caught:
        dynabert.rewire(model(), wrong)
    assert caught.value.faults == (
        "`heads` must be (4, 4) for this model, but is (4, 3)",
        "`neurons` must be finite",
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda order: order["heads"]["of"].pop(),
        lambda order: order["heads"]["of"].__setitem__(0, 7),
        lambda order: order["neurons"]["orders"][0].__setitem__(0, 99),
        lambda order: order.pop("neurons"),
    ],
)
def test_an_order_in_a_configuration_is_checked(spoil: Any) -> None:
    made = dynabert.rewire(model(sharing="tied"), drawn())
    spoil(made.config.dynabert_order)
    with pytest.raises(
        InvalidValueError, match=r"`dynabert_order` must have, as `(heads|neurons)`"
    ):
        dynabert.restore(made)
