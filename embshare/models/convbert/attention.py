"""Mixed attention: half of the heads attend, half convolve with kernels that the tokens decide.

Axis letters: B batch, T positions, H width, N heads of either kind, S width of a head, K kernel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.models._bert import attend_heads
from embshare.models.convbert.config import ConvBertConfig

__all__ = ["MixedAttention", "SeparableConv", "dynamic_convolution"]


def dynamic_convolution(values: Tensor, kernels: Tensor) -> Tensor:
    """Average each position's neighbours by a kernel per position; zeros are beyond the edges.

    Args:
        values: ``[B, T, N, S]``.
        kernels: ``[B, T, N, K]``, whose entry ``j`` weighs position ``t + j - (K - 1) / 2``.
    Returns:
        ``[B, T, N, S]``.
    Source:
        Equation 3 of the paper, as the official ``attention_layer`` unfolds it.
    """
    length, size = kernels.shape[1], kernels.shape[-1]
    padded = F.pad(values, (0, 0, 0, 0, size // 2, size // 2))
    mixed = padded[:, :length] * kernels[..., :1]
    for j in range(1, size):
        mixed = mixed + padded[:, j : j + length] * kernels[..., j : j + 1]
    return mixed


class SeparableConv(nn.Module):
    """A convolution over positions, then a linear map of each; one bias, after the latter."""

    def __init__(self, width: int, out: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(
            width, width, kernel, padding=kernel // 2, groups=width, bias=False
        )
        self.pointwise = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, width]`` to ``[B, T, out]``."""
        mapped: Tensor = self.pointwise(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        return mapped


class MixedAttention(nn.Module):
    """Self-attention beside span-based dynamic convolution, side by side.

    Source:
        Jiang et al., ConvBERT: Improving BERT with Span-based Dynamic Convolution, NeurIPS 2020,
        equations 4 and 5; for other ratios than 2, the official code.
    """

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        self.heads = config.mixed_heads
        self.attention_dropout = config.attention_probs_dropout_prob
        hidden, kernel = config.hidden_size, config.conv_kernel_size
        inner = self.heads * config.head_size
        self.query = nn.Linear(hidden, inner)
        self.key = nn.Linear(hidden, inner)
        self.value = nn.Linear(hidden, inner)
        self.conv_key = SeparableConv(hidden, inner, kernel)
        self.conv_kernel = nn.Linear(inner, self.heads * kernel)
        self.conv_value = nn.Linear(hidden, inner)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``[B, T, H]`` to ``[B, T, 2 N S]``, attending heads before the convolving ones.

        Args:
            x: states.
            mask: ``[B, 1, 1, T]``, added to the scores. The convolution sees padding all the same.
        """
        query = self.query(x)
        attended = self.attend(query, x, mask)
        kernels = self.conv_kernel(self.conv_key(x) * query).unflatten(-1, (self.heads, -1))
        values = self.conv_value(x).unflatten(-1, (self.heads, -1))
        convolved = dynamic_convolution(values, kernels.softmax(-1))
        return torch.cat([attended, convolved.flatten(2)], -1)

    def attend(self, query: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """The attending heads' values side by side, ``[B, T, N S]``."""
        projected = (query, self.key(x), self.value(x))
        dropout = self.attention_dropout if self.training else 0.0
        return attend_heads(projected, self.heads, mask, dropout=dropout)
