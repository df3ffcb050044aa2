"""Rows of a table: padding, rows of several tables, sparse gradients, hooks, bags."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import UnsupportedSourceError
from tests._support.habit_models import (
    CONFIGS,
    IDS,
    LM,
    TABLES,
    VOCABULARY,
    WIDTH,
    equal,
    out,
    shared,
    train,
    trainable,
)

ALL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "foreach": lambda p: torch.optim.Adam(p, lr=0.05, foreach=True),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.05, fused=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.05),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.05),
}


def stored(model: Any) -> Tensor:
    """The table as it is stored, a clone."""
    found: Tensor = model.embed._parameters["weight"].detach().clone()
    return found


@ALL
@pytest.mark.parametrize("index", [0, 96, -1])
def test_the_padding_row_stays_as_it_was(config: ShareConfig, index: int) -> None:
    model = shared(config, padding_idx=index)
    before = stored(model)
    train(model, 5)
    assert torch.equal(stored(model)[index], before[index])
    assert not torch.equal(stored(model)[3], before[3])


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_padding_row_stays_under_any_optimizer(make: Any) -> None:
    model = shared(padding_idx=5)
    before = stored(model)
    assert not before[5].any()
    train(model, 5, make(model.parameters()))
    assert torch.equal(stored(model)[5], before[5])


def test_a_dense_table_tied_to_a_head_trains_its_padding_row_and_a_shared_one_does_as_much() -> (
    None
):
    """A tied head scores the padding token: its gradient is the model's own, as without sharing."""

    def build() -> Any:
        torch.manual_seed(0)
        model: Any = LM(padding_idx=0)
        model.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        model.head.weight = model.embed.weight
        return model

    dense, model = train(build(), 1), build()
    assert stored(dense)[0].any()
    embshare.share_from_embedding(model)
    loss = model(IDS).square().mean()
    loss.backward()
    twin = copy.deepcopy(model)
    twin.zero_grad()
    with torch.no_grad():
        hidden = twin.enc(twin.embed(IDS))
    scores: Tensor = (hidden @ twin.embed.weight.t()).square().mean()
    torch.autograd.backward(scores)
    torch.testing.assert_close(model.embed.weight.grad[0], twin.embed.weight.grad[0])


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_the_padding_row_stays_in_a_compiled_model(backend: str) -> None:
    torch._dynamo.reset()
    model = shared(padding_idx=0)
    before = stored(model)
    compiled: Any = torch.compile(model, backend=backend)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(compiled(IDS).flatten(0, 1), IDS.flatten()).backward()
        optimizer.step()
    assert torch.equal(stored(model)[0], before[0])


def test_the_padding_row_stays_under_functional_gradients() -> None:
    model = shared(padding_idx=0)
    parameters = {n: p.detach() for n, p in model.named_parameters()}

    def loss(p: Any) -> Tensor:
        found: Tensor = torch.func.functional_call(model, p, (IDS,))
        return found.square().mean()

    gradient = torch.func.grad(loss)(parameters)["embed.weight"]
    assert not gradient[0].any() and gradient[3].any()


def test_the_padding_row_survives_saving_loading_and_training_on(tmp_path: Path) -> None:
    model = train(shared(padding_idx=0))
    loaded: Any = embshare.load(embshare.save(model, tmp_path), LM(padding_idx=0))
    assert equal(loaded, model)
    train(loaded)
    assert not stored(loaded)[0].any()
    twin = copy.deepcopy(loaded)
    train(twin)
    assert not stored(twin)[0].any()


class Two(nn.Module):
    """An encoder's table and a decoder's, both with padding, and layers of each."""

    def __init__(self) -> None:
        super().__init__()
        self.source = nn.Embedding(VOCABULARY, WIDTH, padding_idx=1)
        self.target = nn.Embedding(53, WIDTH, padding_idx=2)
        self.enc, self.dec = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(3 * WIDTH, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.dec(self.enc(self.source(x) + self.target(x % 53)).relu())
        return found


def test_each_of_several_tables_keeps_its_padding_row() -> None:
    model: Any = embshare.share_from_embedding(
        Two(), ShareConfig(source={"enc.*": "source", "dec.*": "target"})
    )
    tables = [model.source.weight.clone(), model.target.weight.clone()]
    train(model)
    assert torch.equal(model.source.weight[1], tables[0][1])
    assert torch.equal(model.target.weight[2], tables[1][2])
    assert not torch.equal(model.target.weight[1], tables[1][1])


@pytest.mark.parametrize("config", TABLES.values(), ids=TABLES)
def test_a_table_that_renorms_its_rows_is_refused_when_planned(config: ShareConfig) -> None:
    with pytest.raises(UnsupportedSourceError, match=r"`embed\.weight` must be without `max_norm`"):
        shared(config, max_norm=0.5)


def test_a_sparse_table_says_in_the_plan_what_becomes_of_its_gradient() -> None:
    model: Any = LM(sparse=True)
    plan = embshare.plan_sharing(model)
    assert "gradient of `embed.weight` will be dense" in str(plan).replace("\n", " ")
    embshare.share_from_embedding(model, plan)
    train(model)
    assert not model.embed.weight.grad.is_sparse


def test_counting_frequencies_of_tokens_goes_on() -> None:
    model = shared(scale_grad_by_freq=True)
    train(model)
    assert out(model).isfinite().all()


def test_rows_frozen_by_a_gradient_hook_stay() -> None:
    """Only new tokens are trained: the habit of zeroing the gradient of old rows."""
    model = shared()
    mask = torch.zeros(VOCABULARY, 1)
    mask[90:] = 1
    model.embed.weight.register_hook(lambda gradient: gradient * mask)
    before = stored(model)
    train(model, 3, torch.optim.Adam(model.parameters(), lr=0.05))
    assert torch.equal(stored(model)[:90], before[:90])
    assert not torch.equal(stored(model)[90:], before[90:])


def test_rows_restored_after_each_step_stay_and_weights_follow() -> None:
    model = shared()
    before = stored(model)
    for _ in range(3):
        train(model, 1)
        with torch.no_grad():
            model.embed.weight[:90] = before[:90]
    fresh = copy.deepcopy(model)
    assert torch.equal(stored(model)[:90], before[:90])
    assert equal(fresh, model)


def test_from_pretrained_rows_are_the_table_frozen_or_not() -> None:
    rows = torch.randn(VOCABULARY, WIDTH)
    for freeze in (True, False):
        model: Any = LM()
        model.embed = nn.Embedding.from_pretrained(rows.clone(), freeze=freeze, padding_idx=0)
        embshare.share_from_embedding(model)
        train(model, 3, torch.optim.Adam(trainable(model), lr=0.05))
        assert torch.equal(model.embed.weight, rows) == freeze
        assert torch.equal(model.embed.weight[0], rows[0])


class Bag(nn.Module):
    """A text classifier of a bag of embeddings."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(VOCABULARY, WIDTH, **options)
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.embed(x))
        return found


@pytest.mark.parametrize("options", [{"mode": "mean"}, {"mode": "sum", "padding_idx": 0}])
def test_a_bag_of_embeddings_is_a_table(options: dict[str, Any], tmp_path: Path) -> None:
    model: Any = embshare.share_from_embedding(Bag(**options))
    before = model.embed.weight.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model(IDS).square().mean().backward()
        optimizer.step()
    if "padding_idx" in options:
        decayed = before[0] * (1 - 0.05 * 0.01) ** 3  # weight decay is no gradient
        torch.testing.assert_close(model.embed.weight[0].detach(), decayed)
    loaded = embshare.load(embshare.save(model, tmp_path), Bag(**options))
    assert equal(loaded, model)
    torch.testing.assert_close(out(embshare.materialize(model)), out(model))
