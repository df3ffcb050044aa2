"""How well hidden symbols are predicted: sums for each row, divided once at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from embshare.tasks.pretraining.sparse import labelled_logits

__all__ = ["METRICS", "sums_per_row", "to_metrics"]

IGNORED: Final = -100
METRICS: Final = ("masked_perplexity", "masked_accuracy", "masked_symbols")


def sums_per_row(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each row: the sum of ``-log p``, how many were guessed right, how many were labelled.

    Args:
        logits: of all positions, or of the labelled ones; see `labelled_logits`.
        labels: ``[B, T]``, -100 where nothing is predicted.
    Returns:
        ``[B, 3]`` of float64, so that sums over a long text stay exact.
    """
    scored = labels != IGNORED
    kept, wanted = labelled_logits(logits, labels).float(), labels[scored]
    nats = F.cross_entropy(kept, wanted, reduction="none").double()
    hits = (kept.argmax(dim=-1) == wanted).double()
    found = torch.stack((nats, hits, torch.ones_like(nats)), dim=1)
    rows = scored.nonzero()[:, 0]
    return found.new_zeros(len(labels), 3).index_add(0, rows, found)


def to_metrics(sums: Any) -> Mapping[str, float]:
    """Sums ``[N, 3]`` of rows to numbers by the names in `METRICS`."""
    nats, hits, symbols = sums.sum(axis=0).tolist()
    try:
        perplexity = math.exp(nats / symbols)
    except OverflowError:
        perplexity = math.inf
    return dict(zip(METRICS, (perplexity, hits / symbols, symbols), strict=True))
