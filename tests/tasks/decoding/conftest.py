"""A model of a test's size whose next symbol depends on all symbols before it."""

from __future__ import annotations

from itertools import product
from typing import final

import torch
from torch import Tensor

FIRST, END, SYMBOLS = 0, 1, 4


@final
class Table:
    """Each prefix of each source has random log-probabilities of its own.

    Its state is what was read, so a search that takes the wrong row gets wrong numbers.
    """

    def __init__(self, sources: int, *, seed: int, spread: float = 1.5) -> None:
        self._seed, self._spread, self.sources = seed, spread, sources
        self.steps = 0

    def start(self) -> Tensor:
        """``[B, 1]``: the number of the source."""
        return torch.arange(self.sources)[:, None]

    def step(self, symbols: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As in `Scorer`."""
        self.steps += 1
        read = torch.cat((state, symbols[:, None]), dim=1)
        return torch.stack([self.log_probs(row) for row in read.tolist()]), read

    def reorder(self, state: Tensor, rows: Tensor) -> Tensor:
        """As in `Scorer`."""
        return state[rows]

    def log_probs(self, read: list[int]) -> Tensor:
        """Of the symbol after a source's number and what was read; the start never comes."""
        mixed = self._seed
        for part in read:
            mixed = (mixed * 1_000_003 + part + 1) % 2**31
        random = torch.Generator().manual_seed(mixed)
        scores = torch.randn(SYMBOLS, generator=random) * self._spread
        scores[FIRST] = -torch.inf
        return scores.log_softmax(dim=-1)

    def every_sequence(self, source: int, limit: int) -> dict[tuple[int, ...], float]:
        """Log-probabilities of all finished sequences of at most ``limit`` symbols."""
        inner = [s for s in range(SYMBOLS) if s not in (FIRST, END)]
        found = {}
        for length in range(limit):
            for symbols in product(inner, repeat=length):
                read, total = [source, FIRST], 0.0
                for symbol in (*symbols, END):
                    total += float(self.log_probs(read)[symbol])
                    read.append(symbol)
                found[symbols] = total
        return found
