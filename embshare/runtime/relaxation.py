"""What a weight may add to the block that it shares: learned gains and a low-rank term."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from embshare.config import ShareConfig
from embshare.ops.autocast import without_autocast
from embshare.ops.derive import must_be_plain
from embshare.plan.values import Slot

__all__ = ["Relaxation", "relax"]


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


class Relaxation(nn.Module):
    """The parameters of `relax` for one weight; starts as the identity."""

    def __init__(self, slot: Slot, config: ShareConfig, like: Tensor) -> None:
        super().__init__()
        shape: tuple[int, ...] = ()
        if config.gain == "channel":
            shape = tuple(n if i == slot.channel else 1 for i, n in enumerate(slot.shape))
        wanted = config.gain in ("learned", "channel")
        self.gain = nn.Parameter(like.new_ones(shape)) if wanted else None
        rank = config.residual_rank
        rest = slot.numel // slot.shape[0]
        self.left = nn.Parameter(like.new_zeros(slot.shape[0], rank)) if rank else None
        self.right = nn.Parameter(like.new_empty(rank, rest)) if rank else None

    def reset(self, generator: torch.Generator | None) -> None:
        """Start as the identity: ones, zeros, and random directions ready to be used."""
        if self.right is not None:
            nn.init.normal_(self.right, std=1 / math.sqrt(self.right.shape[1]), generator=generator)

    def start_at(self, left: Tensor, right: Tensor) -> None:
        """Start from a low-rank term ``left @ right`` instead of zero."""
        assert self.left is not None and self.right is not None
        with torch.no_grad():
            self.left.copy_(left)
            self.right.copy_(right)

    def forward(self, block: Tensor) -> Tensor:
        """The weight, from the block that it shares."""
        return relax(block, self.gain, self.left, self.right)


def needs_relaxation(config: ShareConfig) -> bool:
    """Whether a config gives each weight parameters of its own."""
    return config.gain in ("learned", "channel") or config.residual_rank > 0
