"""What a weight may add to the block that it shares: learned gains and a low-rank term."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embshare.ops.autocast import without_autocast
from embshare.ops.tracing import must_be_plain

__all__ = ["relax"]


def relax(block: Tensor, gain: Tensor | None, left: Tensor | None, right: Tensor | None) -> Tensor:
    """``gain * block + left @ right``.

    Args:
        block: a derived weight, of any shape.
        gain: broadcasts to ``block``, or None for 1.
        left: ``[block.shape[0], r]``, with ``right`` ``[r, the other dimensions]``; or None.
    Returns:
        As ``block``. In eager mode the inputs are kept by reference, as in `embshare.ops.derive`.
    """
    with torch.enable_grad(), without_autocast(block.device.type):
        if must_be_plain():
            return _plain(block, gain, left, right)
        return _Relax.apply(block, gain, left, right)  # type: ignore[no-any-return]


def _plain(block: Tensor, gain: Tensor | None, left: Tensor | None, right: Tensor | None) -> Tensor:
    weight = block if gain is None else block * gain.to(block.dtype)
    if left is not None and right is not None:
        weight = weight + (left @ right).view(block.shape).to(block.dtype)
    return weight


class _Relax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, block: Tensor, gain: Tensor | None, left: Tensor | None, right: Tensor | None
    ) -> Tensor:
        ctx.inputs = (block, gain, left, right)
        return _plain(block, gain, left, right)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        block, gain, left, right = ctx.inputs
        d_gain = d_left = d_right = None
        if gain is not None and ctx.needs_input_grad[1]:
            d_gain = (grad * block).sum_to_size(gain.shape).to(gain.dtype)
        if left is not None and right is not None:
            flat = grad.reshape(grad.shape[0], -1).to(left.dtype)
            d_left, d_right = flat @ right.t(), left.t() @ flat
        d_block = grad if gain is None else grad * gain.to(grad.dtype)
        return d_block, d_gain, d_left, d_right
