"""Bars over the steps of one run, and over the runs of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self, final

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

__all__ = ["CellBar", "StepBar"]


class _Bar:
    """One job and its time, on a terminal and nowhere else."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,  # the result takes its place
            disable=not console.is_terminal,
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


@final
class StepBar(_Bar):
    """Shows how many steps of a run are done."""

    def start(self, steps: int) -> None:
        """Training begins."""
        self._bar.update(self._job, total=steps, description="training")

    def step(self) -> None:
        """A step is done."""
        self._bar.advance(self._job)
        if self._bar.tasks[0].finished:
            self._bar.update(self._job, description="evaluating")


@final
class CellBar(_Bar):
    """Shows how many runs of a benchmark are done, and what the last one gave."""

    def planned(self, cells: Sequence[tuple[Cell, int]]) -> None:
        """The benchmark begins."""
        self._bar.update(self._job, total=len(cells), description="training")

    def ended(self, cell: Cell, result: RunResult, *, resumed: bool) -> None:
        """A run is done."""
        value = f"{result.metric} {result.metrics[result.metric]:.4g}"
        words = f"{cell.task} {cell.architecture} {cell.method}, seed {cell.seed}: {value}"
        self._bar.update(self._job, advance=1, description=words)
