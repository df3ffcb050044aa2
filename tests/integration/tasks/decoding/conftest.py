"""A tiny model whose next token depends on all tokens before it."""

from __future__ import annotations

from itertools import product
from typing import final

import torch
from torch import Tensor

FIRST, END, TOKENS = 0, 1, 4


@final
class Table:
    """Random log-probabilities for each prefix of each source.

    The state is the prefix, so a search that takes the wrong row gets wrong numbers.
    """

    def __init__(self, sources: int, *, seed: int, scale: float = 1.5) -> None:
        self._seed, self._scale, self.sources = seed, scale, sources
        self.steps = 0

    def start(self) -> Tensor:
        """State before the first token, ``[B, 1]``: the number of the source."""
        return torch.arange(self.sources)[:, None]

    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read one token, as in `Scorer`."""
        self.steps += 1
        read = torch.cat((state, tokens[:, None]), dim=1)
        return torch.stack([self.log_probs(row) for row in read.tolist()]), read

    def reorder(self, state: Tensor, rows: Tensor) -> Tensor:
        """Select rows, as in `Scorer`."""
        return state[rows]

    def log_probs(self, read: list[int]) -> Tensor:
        """Log-probabilities of the token after a source's number and a prefix; never the start."""
        mixed = self._seed
        for part in read:
            mixed = (mixed * 1_000_003 + part + 1) % 2**31
        random = torch.Generator().manual_seed(mixed)
        scores = torch.randn(TOKENS, generator=random) * self._scale
        scores[FIRST] = -torch.inf
        return scores.log_softmax(dim=-1)

    def every_sequence(self, source: int, limit: int) -> dict[tuple[int, ...], float]:
        """Log-probabilities of all finished sequences of at most ``limit`` tokens."""
        inner = [s for s in range(TOKENS) if s not in (FIRST, END)]
        found = {}
        for length in range(limit):
            for tokens in product(inner, repeat=length):
                read, total = [source, FIRST], 0.0
                for token in (*tokens, END):
                    total += float(self.log_probs(read)[token])
                    read.append(token)
                found[tokens] = total
        return found
