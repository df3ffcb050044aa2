"""A Linear layer that computes with a part of its weight.

Nothing that is stored changes: parameters and their names, state dicts and optimizers are those
of the whole layer. A smaller layer gets another class, which says so, and gets its own back when it
is whole again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.ops.tracing import must_be_plain
from embshare.runtime.shared_layers import SharedLayer, plain_class, shared_class

__all__ = ["COLUMN_ORDER", "ROW_ORDER", "ElasticLinear", "cut", "require_cuttable"]

ROW_ORDER, COLUMN_ORDER = "row_order", "column_order"
"""Buffers ``[rows]`` and ``[columns]`` of layers whose weight cannot be permuted, most important
first. They are not saved with the weights: the model's configuration has them."""
PICKED: Final = "_embshare_picked"
"""Attribute of a derived weight with the rows and columns that were picked of it."""


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
        rows, columns = self._buffers.get(ROW_ORDER), self._buffers.get(COLUMN_ORDER)
        weight = first(self.weight, 0, self.rows, rows, self.order_key)
        weight = first(weight, 1, self.columns, columns, self.order_key)
        bias: Tensor | None = self.bias
        return weight, None if bias is None else first(bias, 0, self.rows, rows)

    def extra_repr(self) -> str:
        """The base's, and how much of it is used."""
        parts = (("rows", self.rows), ("columns", self.columns))
        shown = [f"{name}={count}" for name, count in parts if count is not None]
        return ", ".join([super().extra_repr(), *shown])


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


def cut(layer: nn.Linear, *, rows: int | None = None, columns: int | None = None) -> None:
    """Let a layer use its first rows and columns; None is all.

    Args:
        layer: one that `require_cuttable` lets pass.
        rows: output features.
        columns: input features.
    """
    whole = rows in (None, layer.out_features) and columns in (None, layer.in_features)
    kind: type[nn.Linear] = nn.Linear if whole else ElasticLinear
    if isinstance(layer, SharedLayer):
        kind = cast("type[nn.Linear]", shared_class(kind, layer._embshare_names))  # type: ignore[arg-type]
    layer.__class__ = kind
    for name, count in (("rows", rows), ("columns", columns)):
        if whole:
            layer.__dict__.pop(name, None)
        else:
            layer.__dict__[name] = count


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


def pick(weight: Tensor, dim: int, count: int, order: Tensor, key: int) -> Tensor:
    """The first rows or columns of a derived weight by an order, picked once for all its readers.

    Tied layers are given one tensor in a call, and all of them pick the same of it. So what was
    picked stays with that tensor, and goes when it goes: with the call, or with what calls have
    kept.

    Args:
        weight: ``[rows, columns]``, as a layer reads it.
        dim: 0 picks rows, 1 columns.
        count: number of rows or columns.
        order: ``[rows]`` or ``[columns]``, the first ones first.
        key: equal for equal orders.
    """
    if must_be_plain():  # a compiler sees equal operations by itself
        return weight.index_select(dim, order[:count])
    kept: dict[tuple[int, int, int], Tensor] | None = getattr(weight, PICKED, None)
    if kept is None:
        kept = {}
        setattr(weight, PICKED, kept)
    found = kept.get((dim, count, key))
    if found is None:
        # As derived weights have a graph always; and what stays with a weight that calls keep must
        # be of use to calls outside of inference mode too.
        with torch.inference_mode(weight.is_inference()), torch.enable_grad():
            found = _Pick.apply(weight, dim, order[:count])
        kept[dim, count, key] = found
    return found


class _Pick(torch.autograd.Function):
    """``index_select`` that saves no tensors: activation checkpointing counts those.

    A block that is run again may have to pick what another block's forward had picked for it.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, dim: int, index: Tensor) -> Tensor:
        ctx.shape, ctx.dim, ctx.index = weight.shape, dim, index
        if weight.stride(0) < weight.stride(1):  # stored as [in, out]: pick along memory
            return weight.t().index_select(1 - dim, index).t()
        return weight.index_select(dim, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        if ctx.dim:
            turned = gradient.new_zeros(ctx.shape[::-1]).index_copy(0, ctx.index, gradient.t())
            return turned.t(), None, None
        return gradient.new_zeros(ctx.shape).index_copy(0, ctx.index, gradient), None, None
