"""The two heads of pretraining.

Axis letters: B batch, T positions, E and H widths, V words.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.models.convbert.config import ConvBertConfig
from embshare.models.convbert.encoder import GlorotLinear

__all__ = ["DiscriminatorHead", "GeneratorHead"]


class GeneratorHead(nn.Module):
    """Scores the vocabulary with the table itself, and a bias."""

    def __init__(self, config: ConvBertConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """``[..., width]`` and the table ``[V, E]`` to ``[..., V]``."""
        return F.linear(self.norm(F.gelu(self.dense(x))), table, self.bias)


class DiscriminatorHead(nn.Module):
    """One number for each position."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.score = GlorotLinear(config.hidden_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, H]`` to ``[B, T]``."""
        scores: Tensor = self.score(F.gelu(self.dense(x)))
        return scores.squeeze(-1)
