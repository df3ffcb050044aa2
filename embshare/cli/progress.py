"""Bars over the steps of one run, and over the trials of a study."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, final

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

if TYPE_CHECKING:
    from embshare.tasks.studies.study import Trial
    from embshare.tasks.studies.trial import TrialRecord

__all__ = ["StepBar", "TrialBar"]


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
class TrialBar(_Bar):
    """Shows how many trials of a study are done, and what the last one gave."""

    def planned(self, trials: Sequence[Trial]) -> None:
        """The study begins."""
        self._bar.update(self._job, total=len(trials), description="training")

    def ended(self, trial: Trial, found: TrialRecord | Exception, *, resumed: bool) -> None:
        """A trial is done."""
        if isinstance(found, Exception):
            self._bar.console.print(f"{trial.name} failed: {found}", highlight=False, markup=False)
            words = f"{trial.name}: failed"
        else:
            result = found.result
            words = f"{trial.name}: {result.metric} {result.metrics[result.metric]:.4g}"
        self._bar.update(self._job, advance=1, description=words)
