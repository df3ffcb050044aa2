"""Rows or columns of a derived weight, picked once for all layers that read it.

Tied layers are given one tensor in a call, and all of them pick the same of it. So what was picked
stays with that tensor, and goes when it goes: with the call, or with what calls have kept.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from embshare.ops.tracing import must_be_plain

__all__ = ["pick"]

PICKED: Final = "_embshare_picked"


def pick(weight: Tensor, dim: int, count: int, order: Tensor, key: int) -> Tensor:
    """The first ``count`` rows or columns of a weight by an order.

    Args:
        weight: ``[rows, columns]``, as a layer reads it.
        dim: 0 picks rows, 1 columns.
        count: how many.
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
        if weight.stride(0) < weight.stride(1):  # laid out [in, out]: pick along memory
            return weight.t().index_select(1 - dim, index).t()
        return weight.index_select(dim, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        if ctx.dim:
            turned = gradient.new_zeros(ctx.shape[::-1]).index_copy(0, ctx.index, gradient.t())
            return turned.t(), None, None
        return gradient.new_zeros(ctx.shape).index_copy(0, ctx.index, gradient), None, None
