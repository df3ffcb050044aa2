"""A factorised table: the same function as its product, which is never multiplied out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import embshare
from embshare import ShareConfig
from embshare.errors import DerivedWeightError, UnsupportedSourceError
from embshare.runtime.factorized import FactorMap, Product, as_factored, as_stored
from tests._support.layer_examples import MODELS, VOCABULARY, Example

ROWS, WIDTH, FACTOR = 61, 12, 5
IDS = torch.arange(6).view(2, 3)


class Tied(nn.Module):
    """An embedding and a head of the same table."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(ROWS, WIDTH, **settings)
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, ROWS)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        found: Tensor = self.head(torch.tanh(self.layer(self.embed(ids))))
        return found


def factored(**config: Any) -> Tied:
    torch.manual_seed(0)
    return embshare.share_from_embedding(Tied(), ShareConfig(factor=FACTOR, **config)).double()


def parts(model: Tied) -> tuple[Tensor, FactorMap]:
    """What is stored: the table and the map."""
    table = model.embed._parameters["weight"]
    (found,) = (m for m in model.modules() if isinstance(m, FactorMap))
    assert table is not None
    return table, found


def test_it_computes_what_its_product_would() -> None:
    model = factored()
    table, map_ = parts(model)
    wide = table @ map_.weight.t()
    hidden = torch.tanh(F.linear(wide[IDS], model.layer.weight, model.layer.bias))
    torch.testing.assert_close(model(IDS), F.linear(hidden, wide, model.head.bias))


def test_norms_are_those_of_the_published_encoder() -> None:
    model = factored(factor_norm=True)
    table, map_ = parts(model)
    assert map_.norm_in is not None and map_.norm_out is not None and map_.bias is not None
    with torch.no_grad():
        for parameter in (*map_.norm_in.parameters(), *map_.norm_out.parameters(), map_.bias):
            parameter.normal_()
    rows = F.layer_norm(table, (FACTOR,), map_.norm_in.weight, map_.norm_in.bias)
    wide = F.linear(rows, map_.weight, map_.bias)
    wide = F.layer_norm(wide, (WIDTH,), map_.norm_out.weight, map_.norm_out.bias)
    torch.testing.assert_close(model.embed(IDS), wide[IDS])
    # The head scores against the linear part alone.
    hidden = torch.randn(3, WIDTH, dtype=torch.float64)
    wanted = F.linear(hidden, table @ map_.weight.t(), model.head.bias)
    torch.testing.assert_close(model.head(hidden), wanted)


class Wide(TorchDispatchMode):
    """Which operations put out a matrix of all rows and the full width."""

    def __init__(self, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shape = sorted([rows, WIDTH])
        self.wide: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for value in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(value, Tensor) and sorted(value.shape[-2:]) == self.shape:
                self.wide.append(str(func))
        return found


def test_a_training_step_never_multiplies_it_out() -> None:
    model = factored()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Wide(ROWS) as mode:
        F.cross_entropy(model(IDS).flatten(0, 1), IDS.flatten()).backward()
        optimizer.step()
    assert mode.wide == []
    with Wide(ROWS) as mode:  # the test can fail
        model.embed.weight + 0
    assert mode.wide


# The recurrent ones have a separate head, whose weight is as large as the table.
OTHERS = [example for example in MODELS if example.name not in ("lstm-model", "gru-model")]


@pytest.mark.parametrize("example", OTHERS, ids=lambda e: e.name)
def test_nor_does_any_model_of_the_suite(example: Example) -> None:
    model = embshare.share_from_embedding(example.build(), ShareConfig(factor=5))
    with Wide(VOCABULARY) as mode:
        inputs = {
            name: ids[:, :5].clone() for name, ids in example.inputs.items()
        }  # 10 positions, not 12
        out: Any = model(**inputs)
        (out if isinstance(out, Tensor) else out.logits).square().mean().backward()
    assert mode.wide == []


USES: dict[str, Any] = {
    "linear": lambda x, w: F.linear(x, w),
    "linear-bias": lambda x, w: F.linear(x, w, torch.arange(float(ROWS), dtype=x.dtype)),
    "linear-keywords": lambda x, w: F.linear(input=x, weight=w),
    "at-transposed": lambda x, w: x @ w.t(),
    "at-T": lambda x, w: x @ w.T,
    "matmul": lambda x, w: torch.matmul(x, w.t()),
    "mm": lambda x, w: torch.mm(x, w.T),
    "transposed-twice": lambda x, w: x @ w.t().t().t(),
    "transpose": lambda x, w: x @ w.transpose(0, 1),
    "einsum": lambda x, w: torch.einsum("bd,vd->bv", x, w),
    "rows": lambda x, w: x @ w[:7].t(),
    "embedding": lambda x, w: F.embedding(IDS, w),
    "embedding-padding": lambda x, w: F.embedding(IDS, w, padding_idx=2),
    "index": lambda x, w: w[IDS],
    "sum": lambda x, w: w.sum(0),
    "scaled": lambda x, w: (w * 2).mean(1),
    "with-itself": lambda x, w: w @ w.t(),
    "cast": lambda x, w: w.to(torch.float32).double(),
}


@pytest.mark.parametrize("name", USES)
def test_every_use_of_the_weight_sees_the_matrix(name: str) -> None:
    model = factored()
    table, map_ = parts(model)
    with torch.no_grad():
        table[2] = 0  # as a padding row is
    hidden = torch.randn(4, WIDTH, dtype=torch.float64, requires_grad=True)
    wide = table @ map_.weight.t()
    given = [table, map_.weight, hidden]
    results = []
    for weight in (model.embed.weight, wide):
        value = USES[name](hidden, weight)
        assert not isinstance(value, Product)
        slope = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).view(value.shape)
        grads = torch.autograd.grad(value, given, slope, allow_unused=True, materialize_grads=True)
        results.append((value, *grads))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_it_looks_like_the_matrix() -> None:
    model = factored()
    weight = model.embed.weight
    assert tuple(weight.shape) == (ROWS, WIDTH) == tuple(weight.size())
    assert (weight.dim(), weight.numel(), len(weight)) == (2, ROWS * WIDTH, ROWS)
    assert weight.dtype == torch.float64 and weight.device.type == "cpu" and weight.requires_grad
    assert isinstance(weight, nn.Parameter)
    torch.testing.assert_close(weight.detach(), (parts(model)[0] @ parts(model)[1].weight.t()))
    torch.testing.assert_close(weight.clone(), weight.detach())


def test_a_grown_vocabulary_keeps_its_rows_and_fits_the_new_ones() -> None:
    model = factored()
    table, map_ = parts(model)
    before = table.detach().clone()
    added = torch.randn(4, FACTOR, dtype=torch.float64) @ map_.weight.t()
    model.embed.weight.data = torch.cat([model.embed.weight.detach(), added.detach()])
    after = parts(model)[0].detach()
    assert torch.equal(after[:ROWS], before)
    torch.testing.assert_close(model.embed.weight[ROWS:], added)
    assert model.head.weight.shape[0] == ROWS + 4


def test_a_wide_matrix_cannot_be_assigned() -> None:
    model = factored()
    with pytest.raises(DerivedWeightError, match=r"stored \[V, F\] and cannot be assigned"):
        model.embed.weight = nn.Parameter(torch.randn(ROWS, WIDTH))


def test_an_embedding_that_rewrites_its_rows_is_refused_and_left_alone() -> None:
    model = Tied(max_norm=1.0)
    with pytest.raises(UnsupportedSourceError, match="without `max_norm`, which rewrites"):
        embshare.share_from_embedding(model, ShareConfig(factor=FACTOR))
    assert type(model.layer) is nn.Linear and model.embed.weight.shape == (ROWS, WIDTH)


def test_padding_stays_zero() -> None:
    torch.manual_seed(0)
    model = embshare.share_from_embedding(Tied(padding_idx=3), ShareConfig(factor=FACTOR))
    assert float(model.embed(torch.tensor([3])).abs().sum().detach()) == 0.0
    model.embed(torch.tensor([3, 4])).sum().backward()
    grad = parts(model)[0].grad
    assert grad is not None and float(grad[3].abs().sum()) == 0.0 < float(grad[4].abs().sum())


def test_a_model_that_never_reads_it_wide_may_show_what_is_stored() -> None:
    model = factored(factor_norm=True)
    table, _ = parts(model)
    before = model(IDS)
    as_stored(model.embed)
    assert model.embed.weight is table is model.get_parameter("embed.weight")
    assert tuple(model.head.weight.shape) == (ROWS, WIDTH), "each layer by itself"
    torch.testing.assert_close(model(IDS), before, rtol=0, atol=0)
    model.embed.weight.data = torch.cat([table.data, table.data[:2]])  # as a resized vocabulary
    assert model.embed(IDS + ROWS - 4).shape == (2, 3, WIDTH)
    plain = embshare.materialize(model)
    assert tuple(plain.embed.weight.shape) == (ROWS + 2, WIDTH)


def test_for_a_loader_a_factorised_embedding_is_what_is_stored_of_it() -> None:
    embedding: Any = factored().embed
    as_stored(embedding)
    assert embedding.weight.shape == (ROWS, FACTOR)
    embedding.weight = nn.Parameter(torch.ones(ROWS, FACTOR))
    as_factored(embedding)
    assert embedding.weight.shape == (ROWS, WIDTH)
    stored: Any = embedding._parameters["weight"]
    assert torch.equal(stored, torch.ones(ROWS, FACTOR))


@pytest.mark.parametrize("norm", [False, True])
def test_under_autocast_a_factorised_embedding_gives_what_a_plain_one_gives(norm: bool) -> None:
    model: Any = nn.ModuleDict({"embed": nn.Embedding(97, 12), "layer": nn.Bilinear(12, 12, 5)})
    embshare.share_from_embedding(model, embshare.ShareConfig(factor=5, factor_norm=norm))
    with torch.autocast("cpu", torch.bfloat16):
        found = model["embed"](torch.arange(4))
        assert found.dtype is torch.float32
        model["layer"](found, found)  # torch casts no bilinear layer
