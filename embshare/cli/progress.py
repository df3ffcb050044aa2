"""A bar over the steps of one run, and a table of the trials of a study."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, final

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.spinner import Spinner
from rich.table import Table

if TYPE_CHECKING:
    from embshare.tasks.studies.record import TrialRecord
    from embshare.tasks.studies.study_file import Trial

__all__ = ["StepBar", "TrialTable"]


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


RECENT: Final = 8
"""Trials that have ended which are shown while others go on."""


@final
class TrialTable:
    """Shows the trials of a study: how many have ended, which are done now, what the last gave.

    On a terminal it is a table that stays in place; elsewhere a line for each trial that ends.

    Args:
        console: Where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._begun = console, time.monotonic()
        self._running: dict[str, float] = {}
        self._recent: deque[tuple[str, str, str]] = deque(maxlen=RECENT)
        self._total = self._ended = self._failed = self._resumed = 0
        self._live = Live(console=console, get_renderable=self._table, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def planned(self, trials: Sequence[Trial]) -> None:
        """The study begins."""
        self._total, self._begun = len(trials), time.monotonic()

    def begun(self, trial: Trial) -> None:
        """A trial has been given to a process."""
        self._running[trial.name] = time.monotonic()

    def ended(self, trial: Trial, found: TrialRecord | Exception, *, resumed: bool) -> None:
        """A trial is done, or failed."""
        self._running.pop(trial.name, None)
        self._ended += 1
        self._resumed += resumed
        if isinstance(found, Exception):
            self._failed += 1
            value = (str(found).splitlines() or [type(found).__name__])[0]
            self._console.print(f"{trial.name} failed: {value}", highlight=False, markup=False)
            words = (trial.name, "failed", "")
        else:
            result = found.result
            value = f"{result.metric} {result.metrics[result.metric]:.4g}"
            took = "kept" if resumed else f"{result.provenance.seconds:.0f} s"
            words = (trial.name, f"{value}, {result.bytes:,} bytes", took)
        self._recent.append(words)
        if not self._console.is_terminal and not isinstance(found, Exception) and not resumed:
            line = f"{self._ended}/{self._total} {', '.join(filter(None, words))}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), title=self._headline(), title_justify="left")
        for heading in ("trial", "result", "time"):
            table.add_column(heading, overflow="ellipsis", no_wrap=True)
        for name, result, took in self._recent:
            style = "red" if result == "failed" else "dim" if took == "kept" else None
            table.add_row(escape(name), escape(result), took, style=style)
        for name, since in self._running.items():
            took = f"{time.monotonic() - since:.0f} s"
            table.add_row(escape(name), Spinner("dots", "running"), took)
        return table

    def _headline(self) -> str:
        if not self._total:
            return "reading data, building each model once"
        seconds, new = time.monotonic() - self._begun, self._ended - self._resumed
        left = self._total - self._ended
        rest = f", about {_clock(seconds / new * left)} left" if new and left else ""
        failed = f", {self._failed} failed" * bool(self._failed)
        return f"{self._ended} of {self._total} trials{failed} in {_clock(seconds)}{rest}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
