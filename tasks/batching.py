"""Batches of rows of similar length, by tokens or by rows, which need little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Self, final

import numpy as np
from torch.utils.data import Sampler

from embshare.errors import InvalidValueError

__all__ = ["RowBatches", "TokenBatches"]


@final
class TokenBatches(Sampler[list[int]]):
    """Batches of row numbers whose padded size is at most ``tokens``.

    In each epoch rows are sorted by length with ties in random order and cut greedily into batches,
    which are shuffled.

    Args:
        lengths: length of each row in tokens, of the longer of several sequences in it.
        tokens: maximum number of tokens in a batch, with padding: rows times the longest length.
        seed: seed of the order. The order depends on seed and epoch alone, so that a resumed run
            sees the same.
        processes: number of training processes, which all get the same number of batches: none may
            wait for a batch that another does not get. Left-over batches of an epoch are dropped.
    Raises:
        InvalidValueError: there are no rows, a row does not fit into a batch, or there are fewer
            batches than processes.
    """

    def __init__(
        self, lengths: Sequence[int], *, tokens: int, seed: int, processes: int = 1
    ) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        if not len(self._lengths):
            raise InvalidValueError(what="batches", faults=["there are no rows to make them of"])
        if (longest := int(self._lengths.max())) > tokens:
            fault = f"a row has {longest} tokens, but a batch holds {tokens}: raise that"
            raise InvalidValueError(what="batches", faults=[fault])
        self._tokens, self._seed, self._processes = tokens, seed, processes
        self._epoch = 0
        if not len(self):
            fault = f"{processes} processes have fewer batches than that: lower their size"
            raise InvalidValueError(what="batches", faults=[fault])

    @property
    def sampler(self) -> Self:
        """Itself: accelerate looks for `set_epoch` here when it deals batches to processes."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order."""
        self._epoch = epoch

    def __len__(self) -> int:
        count = len(self._cuts(np.sort(self._lengths))) - 1
        return count - count % self._processes

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self._seed, self._epoch))
        order = random.permutation(len(self._lengths))
        order = order[np.argsort(self._lengths[order], kind="stable")]
        cuts = self._cuts(self._lengths[order])
        for index in random.permutation(len(cuts) - 1)[: len(self)].tolist():
            yield order[cuts[index] : cuts[index + 1]].tolist()

    def _cuts(self, ascending: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
        """Boundaries of batches in rows sorted by length."""
        cuts = [0]
        for index, length in enumerate(ascending.tolist()):
            if (index + 1 - cuts[-1]) * length > self._tokens:
                cuts.append(index)
        return [*cuts, len(ascending)]


@final
class RowBatches(Sampler[list[int]]):
    """Batches of a fixed number of rows of similar length.

    In each epoch the rows are shuffled and cut into portions of fifty batches; each portion is
    sorted by length and cut into batches, and all batches are shuffled. transformers'
    ``LengthGroupedSampler`` does not shuffle batches, and draws from the global random state, which
    a resumed run cannot repeat.

    Args:
        lengths: length of each row, in tokens.
        rows: batch size; the last batch of an epoch may be smaller.
        seed: see `TokenBatches`.
        processes: see `TokenBatches`.
    Raises:
        InvalidValueError: there are fewer batches than processes.
    """

    PORTION: Final = 50

    def __init__(self, lengths: Sequence[int], *, rows: int, seed: int, processes: int = 1) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self._rows, self._seed, self._processes = rows, seed, processes
        self._epoch = 0
        if not len(self):
            fault = f"{len(lengths)} rows give fewer batches of {rows} than {processes} processes"
            raise InvalidValueError(what="batches", faults=[f"{fault} need: lower `batch_size`"])

    @property
    def sampler(self) -> Self:
        """Itself, as in `TokenBatches`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order."""
        self._epoch = epoch

    def __len__(self) -> int:
        count = -(-len(self._lengths) // self._rows)
        return count - count % self._processes

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self._seed, self._epoch))
        order = random.permutation(len(self._lengths))
        portion = self.PORTION * self._rows
        for first in range(0, len(order), portion):
            part = order[first : first + portion]
            order[first : first + portion] = part[np.argsort(self._lengths[part], kind="stable")]
        starts = range(0, len(order), self._rows)
        for index in random.permutation(len(starts))[: len(self)].tolist():
            yield order[starts[index] : starts[index] + self._rows].tolist()
