"""Who is told how far a benchmark is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final

from embshare.tasks.benchmark.config import Cell
from embshare.tasks.running.result import RunResult

__all__ = ["Observer", "Silent"]


class Observer(Protocol):
    """Is told of every cell."""

    def planned(self, cells: Sequence[tuple[Cell, int]]) -> None:
        """Cells to come, each with its number of training steps."""
        ...

    def ended(self, cell: Cell, result: RunResult, *, resumed: bool) -> None:
        """The cell is done, or its result was found in the folder."""
        ...


@final
class Silent:
    """Tells nobody."""

    def planned(self, cells: Sequence[tuple[Cell, int]]) -> None: ...
    def ended(self, cell: Cell, result: RunResult, *, resumed: bool) -> None: ...
