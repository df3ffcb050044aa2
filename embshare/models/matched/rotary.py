"""Rotary positions: a position is an angle, so nothing is stored and any length will do."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rotate"]


def rotate(x: Tensor, *, start: int = 0, base: float = 10_000.0) -> Tensor:
    """Turn every pair of columns of ``x`` by an angle that grows with the position.

    The product of two rotated vectors then depends on their distance, not on where they stand.

    Args:
        x: ``[..., T, C]`` with an even ``C``; column ``i`` is paired with ``i + C / 2``.
        start: The position of the first row, for a sequence that is read in pieces.
        base: The slowest pair turns once in about ``2 pi base`` positions.
    Returns:
        A new tensor of the shape and kind of ``x``, every row as long as it was.
    Source:
        Su et al. 2021, RoFormer, equation 34.
    """
    half = x.shape[-1] // 2
    speed = base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    place = torch.arange(start, start + x.shape[-2], device=x.device, dtype=torch.float32)
    angle = place[:, None] * speed
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    left, right = x[..., :half], x[..., half:]
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
