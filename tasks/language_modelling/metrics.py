"""Exact perplexity: sums of nats and of tokens, divided once at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from embshare.models.matched.embedding import IGNORED

__all__ = ["Perplexity", "nats_per_row"]


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """Log-likelihood of a text, and its size."""

    nats: float
    """Sum of ``-log p`` over all predicted tokens."""
    tokens: int
    """Number of predicted tokens: all tokens of the text."""
    bytes: int | None
    """Length of the text in UTF-8; ``None`` where tokens lose part of the text."""

    @property
    def perplexity(self) -> float:
        """``exp`` of the mean nats per token; comparable between models with equal vocabularies."""
        try:
            return math.exp(self.nats / self.tokens)
        except OverflowError:
            return math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte, comparable between vocabularies; ``None`` where tokens lose text."""
        return None if self.bytes is None else self.nats / math.log(2) / self.bytes

    def metrics(self) -> dict[str, float]:
        """Return metrics by name."""
        found = {"perplexity": self.perplexity, "nats": self.nats, "tokens": float(self.tokens)}
        if self.bits_per_byte is not None:
            found["bits_per_byte"] = self.bits_per_byte
        return found


def nats_per_row(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum ``-log p`` and count the predicted tokens of each row.

    Args:
        logits: ``[B, T, V]``; position ``t`` predicts token ``t + 1``.
        labels: ``[B, T]``, -100 where nothing is predicted.
    Returns:
        ``[B, 2]`` of float64, so that sums over a long text stay exact.
    """
    following = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
    nats = F.cross_entropy(
        logits.flatten(0, 1).float(), following.flatten(), ignore_index=IGNORED, reduction="none"
    )
    counts = following.ne(IGNORED).sum(dim=1)
    return torch.stack((nats.view_as(following).double().sum(dim=1), counts.double()), dim=1)
