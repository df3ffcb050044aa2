"""A long stream of symbols, cut into windows such that each symbol is predicted exactly once."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["Windows"]

IGNORED = -100


@final
class Windows(Dataset[dict[str, Tensor]]):
    """Rows of ``length + 1`` symbols, whose labels are the symbols themselves or -100.

    The model moves labels by one, so a row predicts up to ``length`` symbols. With
    ``stride == length`` rows stand end to end, which is what training uses. With a smaller stride
    rows overlap: every row but the first predicts its last ``stride`` symbols only, and sees at
    least ``length - stride`` symbols before each of them.

    Args:
        symbols: ``[N]``, what is to be predicted.
        start: The symbol in whose sight the first one is predicted; so all ``N`` count.
        length: Symbols that a row predicts at most; the model reads the last of them too, and so
            one more.
        stride: Symbols from one row to the next.
    Raises:
        ValueError: ``stride`` is not from 1 to ``length``, or there are no symbols.
    """

    def __init__(self, symbols: Tensor, *, start: int, length: int, stride: int) -> None:
        if not 1 <= stride <= length:
            raise ValueError(f"`stride` must be from 1 to {length}, but is {stride} instead.")
        if not len(symbols):
            raise ValueError("`symbols` must hold at least one symbol, but is empty.")
        self.stream = torch.cat((symbols.new_tensor([start]), symbols))
        self.length, self.stride = length, stride

    def __len__(self) -> int:
        predicted = len(self.stream) - 1
        return 1 + math.ceil(max(0, predicted - self.length) / self.stride)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        begin = index * self.stride
        found = self.stream[begin : begin + self.length + 1].long()
        missing = self.length + 1 - len(found)  # of the last row alone
        labels = found.clone()
        labels[: self._seen_before(index)] = IGNORED
        return {
            "input_ids": torch.cat((found, found.new_zeros(missing))),
            "labels": torch.cat((labels, labels.new_full((missing,), IGNORED))),
        }

    def _seen_before(self, index: int) -> int:
        """How many symbols at a row's beginning are there to be seen, not to be predicted."""
        return 1 if index == 0 else self.length + 1 - self.stride
