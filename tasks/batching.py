"""Batches of rows of about one length, by their symbols or by their number: little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Self, final

import numpy as np
from torch.utils.data import Sampler

from embshare.errors import InvalidValueError

__all__ = ["RowBatches", "SymbolBatches"]


@final
class SymbolBatches(Sampler[list[int]]):
    """Batches of row numbers whose padded size is at most ``symbols``.

    Rows are sorted by length with ties in random order, cut greedily, and the batches shuffled,
    anew in every epoch. So padding is little and no order is the same twice.

    Args:
        lengths: Of each row, in symbols: of its longest side.
        symbols: Most symbols of a batch, with padding: its rows times its longest length.
        seed: Of the order; with an epoch it decides it alone, so that a resumed run sees the same.
        processes: The number of batches is a multiple of this: of several training processes none
            may wait for a batch that another does not get. The batches left over in an epoch are
            dropped.
    Raises:
        InvalidValueError: there are no rows, a row does not fit into a batch, or there are fewer
            batches than processes.
    """

    def __init__(
        self, lengths: Sequence[int], *, symbols: int, seed: int, processes: int = 1
    ) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        if not len(self._lengths):
            raise InvalidValueError(what="batches", faults=["there are no rows to make them of"])
        if (longest := int(self._lengths.max())) > symbols:
            fault = f"a row has {longest} symbols, but a batch holds {symbols}: raise that"
            raise InvalidValueError(what="batches", faults=[fault])
        self._symbols, self._seed, self._processes = symbols, seed, processes
        self._epoch = 0
        if not len(self):
            fault = f"{processes} processes have fewer batches than that: lower their size"
            raise InvalidValueError(what="batches", faults=[fault])

    @property
    def sampler(self) -> Self:
        """Where accelerate looks for `set_epoch` when it deals batches out to processes."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
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
        """Where batches begin in rows sorted by length, and where the last one ends."""
        cuts = [0]
        for index, length in enumerate(ascending.tolist()):
            if (index + 1 - cuts[-1]) * length > self._symbols:
                cuts.append(index)
        return [*cuts, len(ascending)]


@final
class RowBatches(Sampler[list[int]]):
    """Batches of a fixed number of rows of about one length.

    In each epoch the rows are shuffled and cut into portions of fifty batches; a portion is sorted
    by length and cut into batches, and all batches are shuffled. So padding is little, and which
    rows meet is chance.

    Args:
        lengths: Of each row, in symbols.
        rows: Of a batch; the last one of an epoch has what is left.
        seed: As in `SymbolBatches`.
        processes: As in `SymbolBatches`.
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
        """As in `SymbolBatches`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
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
