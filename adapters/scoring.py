"""One number of whatever a model returns, for walks that train a step of any architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

__all__ = ["score", "waves"]

LIMIT: Final = 1e4
"""Scores beyond it are those of masks."""


def score(outputs: object) -> Tensor:
    """A fixed linear function of every floating tensor that a model returned.

    A sum of squares would not do: of what a normalisation returns it is constant.

    Args:
        outputs: tensors in mappings, lists and tuples; anything else in them is passed over.
    Raises:
        ValueError: there is no floating tensor.
    """
    found = list(_floats(outputs))
    if not found:
        raise ValueError("the model returns nothing that could be scored")
    total = torch.zeros(())
    for tensor in found:
        flat = tensor.float().flatten().clamp(-LIMIT, LIMIT)
        total = total + (flat * torch.arange(flat.numel()).mul(1.7).sin()).mean()
    return total


def _floats(outputs: object) -> Iterator[Tensor]:
    """Floating tensors in order, without what a generation keeps for its next step."""
    match outputs:
        case Tensor() if outputs.is_floating_point() and outputs.numel():
            yield outputs
        case Mapping():
            for name, part in outputs.items():
                if "past" not in str(name) and "cache" not in str(name):
                    yield from _floats(part)
        case list() | tuple():
            for part in outputs:
                yield from _floats(part)


def waves(*shape: int) -> Tensor:
    """Numbers between -1 and 1 that are the same everywhere: a picture, a spectrum, a sound."""
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float32)
    return numbers.mul(0.37).sin().view(shape)
