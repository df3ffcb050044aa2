"""A long stream of symbols as rows of one length, and the order in which they are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple, Self, final

import numpy as np
from torch.utils.data import Dataset, Sampler

from embshare.errors import InvalidValueError
from embshare.tasks.pretraining.chance import Integers
from embshare.tasks.pretraining.symbols import Symbols

__all__ = ["PASSES", "Row", "RowBatches", "Rows", "Stage"]

PASSES: Final = 2**20
"""More passes than any run makes."""
ENDS: Final = 2
"""Special symbols of each row: one at its beginning, one at its end."""


class Row(NamedTuple):
    """One row, and which reading of it this is."""

    visit: int
    """The pass that it is read in, plus `PASSES` times the run's seed."""
    number: int
    """Of the row."""
    symbols: Integers
    """``[T]``."""


@final
class Rows(Dataset[Row]):
    """Rows without padding: a beginning, a stretch of the stream, an end.

    The stream is cut end to end, once in rows of ``length`` and, if asked for, once more in longer
    ones. What is left over at its end is not read. An index is a row's number, plus the number of
    all rows times the visit: see `Row`.

    Args:
        symbols: the stream; documents in it are separated already.
        begin: the first symbol of each row.
        end: the last one.
        length: of a row, both included.
        late_length: of the longer ones.
    """

    def __init__(
        self, symbols: Symbols, *, begin: int, end: int, length: int, late_length: int | None = None
    ) -> None:
        self.symbols, self.begin, self.end = symbols, begin, end
        self.length, self.late_length = length, late_length
        self.short = symbols.count // (length - ENDS)
        self.long = 0 if late_length is None else symbols.count // (late_length - ENDS)

    def __len__(self) -> int:
        return self.short

    @property
    def total(self) -> int:
        """Rows of either length."""
        return self.short + self.long

    def __getitem__(self, index: int) -> Row:
        visit, number = divmod(index, self.total)
        if number < self.short:
            place, body = number, self.length - ENDS
        else:
            assert self.late_length is not None, "without it there are no such numbers"
            place, body = number - self.short, self.late_length - ENDS
        row = np.empty(body + ENDS, dtype=np.int64)
        row[0], row[-1] = self.begin, self.end
        row[1:-1] = self._stream[place * body : (place + 1) * body]
        return Row(visit, number, row)

    @property
    def _stream(self) -> np.ndarray:
        found: np.ndarray | None = self.__dict__.get("_open")
        if found is None:
            found = self.__dict__["_open"] = self.symbols.array
        return found

    def __getstate__(self) -> dict[str, object]:
        """Without the open file, which each reading process opens for itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_open"}


class Stage(NamedTuple):
    """When rows become longer."""

    first: int
    """The batch, of all of the run, that is the first with long rows."""


@final
class RowBatches(Sampler[list[int]]):
    """Batches of rows in random order, anew in every pass.

    An order depends on the seed and the pass alone, so that a resumed run sees the same. Late
    batches have fewer, longer rows, of about as many symbols.

    Args:
        rows: of the text.
        size: rows of a batch.
        seed: of the order.
        processes: the number of batches is a multiple of this.
        late: when long rows begin, if the text has any.
    Raises:
        InvalidValueError: the text has no batch for each process.
    """

    def __init__(
        self, rows: Rows, *, size: int, seed: int, processes: int = 1, late: Stage | None = None
    ) -> None:
        self._rows, self._size, self._seed = rows, size, seed
        self._processes, self._late, self._pass = processes, late, 0
        if not len(self):
            fault = (
                f"the text has {rows.short:,} rows of {rows.length} symbols, but {processes} "
                f"process(es) with batches of {size} need {processes * size:,}: lower `batch_size` "
                "or `length`"
            )
            raise InvalidValueError(what="batches", faults=[fault])

    @property
    def sampler(self) -> Self:
        """Where accelerate looks for `set_epoch` when it deals batches out to processes."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of a pass."""
        self._pass = epoch

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
        before = self._pass * len(self)
        turn = len(self) if self._late is None else self._late.first - before
        turn = min(max(turn, 0), len(self))
        yield from self._slices(range(turn), self._rows.short, self._size, first=0)
        if turn < len(self):
            numbers = range(turn, len(self))
            yield from self._slices(
                numbers, self._rows.long, self._late_size, first=self._rows.short
            )

    def _slices(self, numbers: range, count: int, size: int, *, first: int) -> Iterator[list[int]]:
        """Batches ``numbers`` of a random order of ``count`` rows that are numbered from first."""
        random = np.random.default_rng((self._seed, self._pass, first))
        order = random.permutation(count)
        base = (self._seed * PASSES + self._pass) * self._rows.total + first
        for number in numbers:
            yield [base + row for row in order[number * size : (number + 1) * size].tolist()]
