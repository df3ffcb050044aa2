"""A small batch for models of fairseq that translate text or model it from left to right."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor, nn

__all__ = ["END", "PAD", "TOKENS", "batch", "noisy", "sentences"]

PAD: Final = 1
END: Final = 2
UNKNOWN: Final = 3
TOKENS: Final = 64
"""Smallest vocabulary that the batch fits."""


def sentences(model: nn.Module) -> Iterator[tuple[Tensor, ...]]:
    """Inputs of a model's ``forward``: two sentences, one padded.

    The ``forward`` of a multilingual model does not take one pair of languages.
    """
    models: Any = import_module("fairseq.models")
    source, lengths, before, target = batch()
    if isinstance(model, models.FairseqLanguageModel):
        yield (before,)
    elif isinstance(model, import_module("fairseq.models.nat").FairseqNATModel):
        yield (source, lengths, *noisy(target))
    elif isinstance(model, models.FairseqEncoderDecoderModel):
        yield (source, lengths, before)


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two sentences, one padded: source, lengths, target moved to the right, target."""
    numbers = torch.Generator().manual_seed(0)
    source = torch.randint(4, TOKENS, (2, 7), generator=numbers)
    target = torch.randint(4, TOKENS, (2, 6), generator=numbers)
    source[1, :2] = PAD  # fairseq pads sources on the left
    target[1, 4:] = PAD
    before = torch.cat([torch.full((2, 1), END), target[:, :-1]], dim=1)
    return source, torch.tensor([7, 5]), before, target


def noisy(target: Tensor) -> tuple[Tensor, Tensor]:
    """Initial tokens of a non-autoregressive model, one of them unknown, and its targets."""
    edge = torch.zeros(len(target), 1, dtype=target.dtype)
    wanted = torch.cat([edge, target, edge + PAD], dim=1)  # begin, tokens, end
    wanted[torch.arange(len(wanted)), wanted.eq(PAD).int().argmax(dim=1)] = END
    given = wanted.clone()
    given[:, 2] = UNKNOWN
    return given, wanted
