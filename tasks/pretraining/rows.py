"""A long stream of tokens as rows of one length, and the order in which they are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple, Self, final

import numpy as np
from torch.utils.data import Dataset, Sampler

from embshare.errors import InvalidValueError
from embshare.tasks.pretraining.counter_rng import Integers
from embshare.tasks.pretraining.data import Tokens

__all__ = ["EPOCHS", "Row", "RowBatches", "Rows", "Stage"]

EPOCHS: Final = 2**20
"""More epochs than any run has."""
ENDS: Final = 2
"""Number of special tokens of a row: one at its beginning, one at its end."""


class Row(NamedTuple):
    """One row, and all that its masks depend on."""

    seed: int
    """Seed of the run."""
    epoch: int
    """Epoch, from 0."""
    number: int
    """Number of the row in the text."""
    tokens: Integers
    """``[T]``."""


@final
class Rows(Dataset[Row]):
    """Rows without padding: a first token, a part of the stream, a last token.

    The stream is cut into contiguous rows of ``length`` and, if asked for, into longer ones too.
    What is left over at its end is not read. An index is a row's number, plus the number of all
    rows times ``seed * EPOCHS + epoch``, so that a worker that reads a row knows its masks.

    Args:
        tokens: the stream; documents in it are separated already.
        begin: first token of each row.
        end: last token of each row.
        length: sequence length, with both.
        late_length: sequence length of the longer ones.
        most: maximum number of rows of ``length``.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        begin: int,
        end: int,
        length: int,
        late_length: int | None = None,
        most: int | None = None,
    ) -> None:
        self._tokens, self._begin, self._end = tokens, begin, end
        self.length, self.late_length = length, late_length
        whole = len(tokens) // (length - ENDS)
        self.short = whole if most is None else min(whole, most)
        self.long = 0 if late_length is None else len(tokens) // (late_length - ENDS)

    def __len__(self) -> int:
        return self.short

    @property
    def total(self) -> int:
        """Number of rows of both lengths."""
        return self.short + self.long

    def __getitem__(self, index: int) -> Row:
        visit, number = divmod(index, self.total)
        seed, epoch = divmod(visit, EPOCHS)
        if number < self.short:
            place, body = number, self.length - ENDS
        else:
            assert self.late_length is not None, "without it there are no such numbers"
            place, body = number - self.short, self.late_length - ENDS
        row = np.empty(body + ENDS, dtype=np.int64)
        row[0], row[-1] = self._begin, self._end
        row[1:-1] = self._tokens.read(place * body, body)
        return Row(seed, epoch, number, row)


class Stage(NamedTuple):
    """The late part of a run, with longer rows."""

    first: int
    """Number of its first batch, counted over the whole run."""


@final
class RowBatches(Sampler[list[int]]):
    """Batches of rows in random order, drawn anew in every epoch.

    The order depends on seed and epoch alone, so that a resumed run sees the same. Late batches
    have fewer, longer rows, of about as many tokens.

    Args:
        rows: rows of the text.
        size: batch size.
        seed: seed of the order.
        processes: number of training processes; the number of batches is a multiple of it.
        late: the late part of the run, if rows become longer.
    Raises:
        InvalidValueError: the text has no batch for each process.
    """

    def __init__(
        self, rows: Rows, *, size: int, seed: int, processes: int = 1, late: Stage | None = None
    ) -> None:
        self._rows, self._size, self._seed = rows, size, seed
        self._processes, self._late, self._epoch = processes, late, 0
        if not len(self):
            fault = (
                f"the text has {rows.short:,} rows of {rows.length} tokens, but {processes} "
                f"process(es) with batches of {size} need {processes * size:,}: lower `batch_size` "
                "or `length`"
            )
            raise InvalidValueError(what="batches", faults=[fault])

    @property
    def sampler(self) -> Self:
        """Itself: accelerate looks for `set_epoch` here when it deals batches to processes."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order."""
        self._epoch = epoch

    def __len__(self) -> int:
        count = self._rows.short // self._size
        if self._late is not None:
            count = min(count, self._rows.long // self._late_size)
        return count - count % self._processes

    @property
    def _late_size(self) -> int:
        length, late_length = self._rows.length, self._rows.late_length
        assert late_length is not None, "whoever gives a stage gives its length"
        return max(1, math.floor(self._size * length / late_length))

    def __iter__(self) -> Iterator[list[int]]:
        before = self._epoch * len(self)
        turn = len(self) if self._late is None else self._late.first - before
        turn = min(max(turn, 0), len(self))
        yield from self._slices(range(turn), self._rows.short, self._size, first=0)
        if turn < len(self):
            numbers = range(turn, len(self))
            yield from self._slices(
                numbers, self._rows.long, self._late_size, first=self._rows.short
            )

    def _slices(self, numbers: range, count: int, size: int, *, first: int) -> Iterator[list[int]]:
        """Batches ``numbers`` of a random order of ``count`` rows, counted from ``first``."""
        random = np.random.default_rng((self._seed, self._epoch, first))
        order = random.permutation(count)
        base = (self._seed * EPOCHS + self._epoch) * self._rows.total + first
        for number in numbers:
            yield [base + row for row in order[number * size : (number + 1) * size].tolist()]
