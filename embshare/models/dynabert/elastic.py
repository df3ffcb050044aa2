"""A Linear layer and a list of layers that compute with a part of what they store.

Nothing that is stored changes: parameters and their names, state dicts and optimizers are those
of the whole layer. A smaller layer gets another class, which says so, and gets its own back when it
is whole again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar, cast

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.models.dynabert.picking import pick
from embshare.models.dynabert.sizes import FULL, Size
from embshare.runtime.shared_layers import SharedLayer, plain_class, shared_class

__all__ = [
    "COLUMN_ORDER",
    "ROW_ORDER",
    "ElasticLayers",
    "ElasticLinear",
    "cut",
    "keep",
    "order_of",
    "require_cuttable",
]

M = TypeVar("M", bound=nn.Module)

ROW_ORDER, COLUMN_ORDER = "row_order", "column_order"
"""Buffers ``[rows]`` and ``[columns]`` of layers whose weight cannot be permuted, most important
first. They are not saved with the weights: the model's configuration has them."""


class ElasticLinear(nn.Linear):
    """An ``nn.Linear`` that uses the first rows and columns of its weight.

    First by `ROW_ORDER` and `COLUMN_ORDER` where it has them: a derived weight is the same for all
    layers that read it and comes from a table, so it cannot be stored in another order.
    """

    rows: int | None = None
    """Output features that are used; None is all."""
    columns: int | None = None
    """Input features that are used; None is all."""
    order_key: int | None = None
    """Equal for layers whose orders are equal."""

    def forward(self, input: Tensor) -> Tensor:
        """``[..., columns]`` to ``[..., rows]``."""
        weight, bias = self.used()
        return F.linear(input, weight, bias)

    def used(self) -> tuple[Tensor, Tensor | None]:
        """The part of weight and bias that the layer computes with."""
        rows, columns = order_of(self, ROW_ORDER), order_of(self, COLUMN_ORDER)
        weight = first(self.weight, 0, self.rows, rows, self.order_key)
        weight = first(weight, 1, self.columns, columns, self.order_key)
        bias: Tensor | None = self.bias
        return weight, None if bias is None else first(bias, 0, self.rows, rows)

    def extra_repr(self) -> str:
        """The base's, and how much of it is used."""
        parts = (("rows", self.rows), ("columns", self.columns))
        shown = [f"{name}={count}" for name, count in parts if count is not None]
        return ", ".join([super().extra_repr(), *shown])


class ElasticLayers(nn.ModuleList):
    """A list of layers that runs some of them, and holds all."""

    kept: tuple[int, ...] = ()
    """Which are run, in order."""
    size: Size = FULL
    """What the model was set to."""

    def __iter__(self) -> Iterator[nn.Module]:
        """The layers that are run."""
        return iter([self[index] for index in self.kept])


def first(
    tensor: Tensor, dim: int, count: int | None, order: Tensor | None, key: int | None = None
) -> Tensor:
    """The first ``count`` along a dimension, in an order; a view where there is no order.

    What is taken of a matrix with a ``key`` is taken once for all layers that are given the tensor.
    """
    if count is None or count == tensor.shape[dim]:
        return tensor
    if order is None:
        return tensor.narrow(dim, 0, count)
    if key is not None and not isinstance(tensor, nn.Parameter):
        return pick(tensor, dim, count, order, key)
    return tensor.index_select(dim, order[:count])


def order_of(layer: nn.Module, name: str) -> Tensor | None:
    """The order of a layer's rows or columns, where it has one."""
    return layer._buffers.get(name)


def cut(layer: nn.Linear, *, rows: int | None = None, columns: int | None = None) -> None:
    """Let a layer use its first rows and columns; None is all.

    Args:
        layer: one that `require_cuttable` lets pass.
        rows: output features.
        columns: input features.
    """
    if rows in (None, layer.out_features) and columns in (None, layer.in_features):
        _become(layer, nn.Linear)
        for name in ("rows", "columns"):
            layer.__dict__.pop(name, None)
        return
    _become(layer, ElasticLinear)
    elastic = cast("ElasticLinear", layer)
    elastic.rows, elastic.columns = rows, columns


def require_cuttable(layers: Iterable[nn.Linear]) -> None:
    """Refuse Linear layers of other classes: what their forward does with a part is not known.

    Raises:
        InvalidValueError: names the first of them.
    """
    for layer in layers:
        if plain_class(layer) not in (nn.Linear, ElasticLinear):
            kind = type(layer).__name__
            fault = f"it must have plain nn.Linear layers to be cut, but one is {kind}"
            raise InvalidValueError(what="the model", faults=[fault])


def _become(layer: nn.Module, kind: type[nn.Module]) -> None:
    if isinstance(layer, SharedLayer):
        layer.__class__ = cast("type[SharedLayer]", shared_class(kind, layer._embshare_names))  # type: ignore[arg-type]
    else:
        layer.__class__ = kind


def keep(layers: nn.ModuleList, kept: tuple[int, ...], size: Size) -> None:
    """Let a list run some of its layers; all of them of the full size make it plain again."""
    if size.width == size.depth == 1:
        layers.__class__ = nn.ModuleList
        for name in ("kept", "size"):
            layers.__dict__.pop(name, None)
        return
    layers.__class__ = ElasticLayers
    elastic = cast("ElasticLayers", layers)
    elastic.kept, elastic.size = kept, size
