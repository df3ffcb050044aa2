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
from embshare.tasks.running.result import RunResult

__all__ = ["Observer", "ProgressBar", "Silent"]


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


@final
class ProgressBar:
    """One bar over all cells, with what the last one gave beside it."""

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
        self._bar.update(self._job, total=len(cells), description="training")

    def ended(self, cell: Cell, result: RunResult, *, resumed: bool) -> None:
        value = f"{result.metric} {result.metrics[result.metric]:.4g}"
        words = f"{cell.task} {cell.architecture} {cell.method}, seed {cell.seed}: {value}"
        self._bar.update(self._job, advance=1, description=words)
