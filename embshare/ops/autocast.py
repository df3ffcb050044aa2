"""Which derived weights are cast once under autocast, and to what.

Autocast casts at operations. Of torch's own layers we know that a weight goes straight into one
that is cast, so the cast can be made once per call and shared by all who read the slot. Any other
layer gets its weight as it is stored, and autocast does what it would have done.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
from torch import nn

__all__ = ["autocast_on", "is_cast", "without_autocast"]

# Why: docs/explanation/decisions/autocast-casts-once.md
_LAYERS: Final = (
    nn.Linear,
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell),
    nn.MultiheadAttention,
)
_FORWARDS: Final = frozenset(
    [
        *(f"{layer.__module__}.{layer.__qualname__}.forward" for layer in _LAYERS),
        "transformers.pytorch_utils.Conv1D.forward",
    ]
)


def is_cast(layer: nn.Module, name: str) -> bool:
    """Whether ``layer`` hands its parameter ``name`` to an operation that autocast casts.

    A subclass with another forward is not known; nor is a norm's direction (``weight_v``).
    """
    forward = type(layer).forward
    known = f"{forward.__module__}.{forward.__qualname__}" in _FORWARDS
    return known and not name.endswith("_v")


def autocast_on(kind: str) -> torch.dtype | None:
    """What autocast casts to on a kind of device; on meta there is none, and asking is an error."""
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind)


def without_autocast(kind: str) -> AbstractContextManager[object]:
    """A block in which nothing is cast on a kind of device."""
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)
