"""Positional encodings that are computed: nothing is stored, and any length is possible."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["rotate", "sinusoids"]


def rotate(x: Tensor, *, start: int = 0, base: float = 10_000.0) -> Tensor:
    """Turn every pair of columns of ``x`` by an angle that grows with the position.

    The product of two rotated vectors then depends on their distance only.

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
    angle = _angles(x, half, start, base)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    left, right = x[..., :half], x[..., half:]
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


def sinusoids(x: Tensor, *, start: int = 0, base: float = 10_000.0) -> Tensor:
    """Sines and cosines of the same angles, to be added to ``x``, whose standard deviation is
    about 1.

    Args:
        x: ``[..., T, D]``; an odd last column gets nothing.
        start: The position of the first row, for a sequence that is read in pieces.
        base: The slowest wave is about ``2 pi base`` positions long.
    Returns:
        ``[T, D]``, of the kind of ``x``.
    Source:
        Vaswani et al. 2017, section 3.5, sines in the first half of the columns.
    """
    angle = _angles(x, x.shape[-1] // 2, start, base)
    waves = torch.cat((angle.sin(), angle.cos()), dim=-1).to(x.dtype)
    return F.pad(waves, (0, x.shape[-1] % 2))


def _angles(x: Tensor, count: int, start: int, base: float) -> Tensor:
    """``[T, count]``, in single precision."""
    speed = base ** (-torch.arange(count, device=x.device, dtype=torch.float32) / count)
    place = torch.arange(start, start + x.shape[-2], device=x.device, dtype=torch.float32)
    return place[:, None] * speed
