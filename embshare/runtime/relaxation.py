"""The parameters of what a weight may add to the block that it shares."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from embshare.config import ShareConfig
from embshare.ops.relax import relax
from embshare.plan.slots import Slot

__all__ = ["Relaxation", "needs_relaxation"]


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
    """Whether a config gives each weight its own parameters."""
    return config.gain in ("learned", "channel") or config.residual_rank > 0
