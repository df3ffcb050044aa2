"""Who is told how far a benchmark is."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from embshare.tasks.benchmark.config import Cell
from embshare.tasks.benchmark.report import CellRecord

__all__ = ["Observer", "ProgressBar", "Silent"]


class Observer(Protocol):
    """Is told of every cell and every step, in order."""

    def planned(self, cells: Sequence[tuple[Cell, int]]) -> None:
        """Cells to come, each with its number of training steps."""
        ...

    def began(self, cell: Cell) -> None:
        """A cell is being built."""
        ...

    def stepped(self) -> None:
        """A training step of it is done."""
        ...

    def ended(self, cell: Cell, record: CellRecord, *, resumed: bool) -> None:
        """The cell is done, or its record was found in the folder."""
        ...


@final
class Silent:
    """Tells nobody."""

    def planned(self, cells: Sequence[tuple[Cell, int]]) -> None: ...
    def began(self, cell: Cell) -> None: ...
    def stepped(self) -> None: ...
    def ended(self, cell: Cell, record: CellRecord, *, resumed: bool) -> None: ...


@final
class ProgressBar:
    """One bar over all steps of all cells, with the cell that is being trained beside it."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,  # the table takes its place
        )
        self._job = self._bar.add_task("preparing", total=None)
        self._steps: dict[Cell, int] = {}
        self._done = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def planned(self, cells: Sequence[tuple[Cell, int]]) -> None:
        self._steps = dict(cells)
        self._bar.update(self._job, total=sum(self._steps.values()))

    def began(self, cell: Cell) -> None:
        place = f"{self._done + 1} of {len(self._steps)}"
        words = f"{cell.task} {cell.architecture} {cell.method}, seed {cell.seed} ({place})"
        self._bar.update(self._job, description=words)

    def stepped(self) -> None:
        self._bar.advance(self._job)

    def ended(self, cell: Cell, record: CellRecord, *, resumed: bool) -> None:
        self._done += 1
        if resumed:
            self._bar.advance(self._job, self._steps[cell])
