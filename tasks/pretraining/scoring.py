"""Perplexity and accuracy of masked tokens: sums for each row, divided once at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from embshare.tasks.pretraining.masked_models import labelled_logits

__all__ = ["METRICS", "sums_per_row", "to_metrics"]

IGNORED: Final = -100
METRICS: Final = ("masked_perplexity", "masked_accuracy", "masked_tokens")


def sums_per_row(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of ``-log p``, number of correct predictions and number of labels of each row.

    Args:
        logits: scores of all positions, or of the labelled ones; see `labelled_logits`.
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
    """Metrics by the names in `METRICS`, from sums ``[N, 3]`` of rows."""
    nats, hits, tokens = sums.sum(axis=0).tolist()
    try:
        perplexity = math.exp(nats / tokens)
    except OverflowError:
        perplexity = math.inf
    return dict(zip(METRICS, (perplexity, hits / tokens, tokens), strict=True))
