"""Sizes of the small batches that models are tried on, and numbers to fill them with."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

__all__ = ["LENGTH", "ROWS", "waves"]

ROWS: Final = 2
LENGTH: Final = 8
"""Tokens of a row."""


def waves(*shape: int) -> Tensor:
    """Numbers between -1 and 1 that are the same everywhere: an image, a spectrum, a sound."""
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float32)
    return numbers.mul(0.37).sin().view(shape)
