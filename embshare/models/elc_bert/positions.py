"""Relative positions in buckets: near ones have their own, far ones share by their logarithm."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["bucket_indices"]


def bucket_indices(length: int, *, buckets: int, span: int, device: torch.device) -> Tensor:
    """Rows of the table of relative positions, ``[T, T]``: row ``i`` asks, column ``j`` is read.

    With ``m = C / 2``, a distance ``r = i - j`` of at most ``m`` has the row ``C - 1 + r``; a
    larger one is ``ceil((m - 1) ln(|r| / m) / ln((M - 1) / m)) + m`` rows from the middle, on
    the side of its sign. Distances from ``M`` on are read as ``M - 1``.

    Args:
        length: positions ``T``.
        buckets: ``C``; the table has ``2 C - 1`` rows.
        span: ``M``, more than ``m + 1``.
        device: device of the result.
    Source:
        Samuel et al., Trained on 100 million words and still in shape, EACL 2023; its code.
    """
    middle = buckets // 2
    signed = torch.arange(1 - length, length, device=device)
    distance = signed.abs().clamp(max=span - 1)
    far = distance.clamp(min=middle).float() / middle  # float32, as officially: ceil tells
    steps = torch.ceil(torch.log(far) / math.log((span - 1) / middle) * (middle - 1))
    steps = (steps.long() + middle).clamp(max=buckets - 1)
    rows = buckets - 1 + torch.where(distance <= middle, signed, signed.sign() * steps)
    places = torch.arange(length, device=device)
    return rows[places[:, None] - places + length - 1]
