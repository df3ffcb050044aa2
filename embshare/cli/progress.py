"""A bar over the steps of one run."""

from __future__ import annotations

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

__all__ = ["StepBar"]


@final
class StepBar:
    """Shows how many steps are done, on a terminal and nowhere else."""

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

    def start(self, steps: int) -> None:
        """Training begins."""
        self._bar.update(self._job, total=steps, description="training")

    def step(self) -> None:
        """A step is done."""
        self._bar.advance(self._job)
        if self._bar.tasks[0].finished:
            self._bar.update(self._job, description="evaluating")
