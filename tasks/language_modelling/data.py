"""Windows of a long text, in which each token is predicted exactly once."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor
from torch.utils.data import Dataset

from embshare.models.matched.embedding import IGNORED

__all__ = ["Windows"]


@final
class Windows(Dataset[dict[str, Tensor]]):
    """Rows of ``length + 1`` tokens that predict each token of a text exactly once.

    Labels are the tokens themselves or -100. The model shifts labels by one, so a row predicts up
    to ``length`` tokens. With ``stride == length`` rows do not overlap, as in training. With a
    smaller stride each row but the first predicts its last ``stride`` tokens only, with a context
    of at least ``length - stride`` tokens.

    Args:
        tokens: ``[N]``, tokens to predict.
        start: start token, the context of the first token, so that all ``N`` are predicted.
        length: maximum number of predicted tokens in a row. The model reads the last of them too,
            and so one more.
        stride: number of tokens from one row to the next.
    Raises:
        ValueError: ``stride`` is not from 1 to ``length``, or there are no tokens.
    """

    def __init__(self, tokens: Tensor, *, start: int, length: int, stride: int) -> None:
        if not 1 <= stride <= length:
            raise ValueError(f"`stride` must be from 1 to {length}, but is {stride} instead.")
        if not len(tokens):
            raise ValueError("`tokens` must hold at least one token, but is empty.")
        self.stream = torch.cat((tokens.new_tensor([start]), tokens))
        self.length, self.stride = length, stride

    def __len__(self) -> int:
        predicted = len(self.stream) - 1
        return 1 + math.ceil(max(0, predicted - self.length) / self.stride)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        begin = index * self.stride
        found = self.stream[begin : begin + self.length + 1].long()
        missing = self.length + 1 - len(found)  # of the last row only
        labels = found.clone()
        labels[: self._context(index)] = IGNORED
        return {
            "input_ids": torch.cat((found, found.new_zeros(missing))),
            "labels": torch.cat((labels, labels.new_full((missing,), IGNORED))),
        }

    def _context(self, index: int) -> int:
        """Number of tokens at a row's beginning that are not predicted."""
        return 1 if index == 0 else self.length + 1 - self.stride
