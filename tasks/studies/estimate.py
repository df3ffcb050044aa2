"""What a study would take: bytes of each model, time and disk, from a few measured steps."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from rich import box
from rich.markup import escape
from rich.table import Table

import embshare
from embshare.tasks.measurement.sizes import Sizes
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.studies.budget import Models
from embshare.tasks.studies.engine import Checks
from embshare.tasks.studies.study_file import Trial
from embshare.tasks.studies.trial import prepared_task
from embshare.tasks.studies.workers import Pool, each

__all__ = ["Estimate", "estimate_trials", "estimates_table", "estimates_total", "step_seconds"]

STEPS: Final = 4
"""Steps that are made of each kind of model; the first of them allocates memory."""
SHORT: Final = 120  # seconds; longer times are shown in minutes
MEASURED: Final = 16
"""Kinds of models that are measured; what others take follows from what their layers read."""


@dataclass(frozen=True)
class Estimate:
    """What one trial would take, as far as can be known before."""

    trial: Trial
    sizes: Sizes | None
    """``None`` where it starts from another trial."""
    seconds: float | None
    """Seconds of training, without reading data and without evaluation."""
    measured: bool
    """Whether steps of this kind of model were made; else it is scaled by parameters read."""


def estimate_trials(checks: Checks, pool: Pool) -> list[Estimate]:
    """Estimate the time of each trial from some steps of some kinds of models.

    Args:
        checks: The trials with their sizes, from `check_trials` with ``measure``.
        pool: Where steps are made.
    """
    kinds: dict[str, list[Trial]] = {}
    for trial in checks.trials:
        if trial.name in checks.sizes:
            kinds.setdefault(_kind(trial.config), []).append(trial)
    firsts = {same[0].name: same[0] for same in [*kinds.values()][:MEASURED]}
    times: Mapping[str, float | Exception] = dict(
        each(pool, step_seconds, firsts, lambda name: (firsts[name],), fail_fast=True)
    )
    rates = [
        (time, checks.sizes[name].read, firsts[name].config.task)
        for name, time in times.items()
        if not isinstance(time, Exception)
    ]
    of_kind = {
        trial.name: time
        for same in kinds.values()
        if not isinstance(time := times.get(same[0].name), Exception | None)
        for trial in same
    }
    return [
        _estimate(trial, checks.sizes.get(trial.name), of_kind, rates) for trial in checks.trials
    ]


def _estimate(
    trial: Trial,
    sizes: Sizes | None,
    times: Mapping[str, float],
    rates: Sequence[tuple[float, int, str]],
) -> Estimate:
    steps = trial.config.training.steps
    if (time := times.get(trial.name)) is not None:
        return Estimate(trial, sizes, steps * time, measured=True)
    near = [(time, read) for time, read, task in rates if task == trial.config.task]
    if sizes is None or not near:
        return Estimate(trial, sizes, None, measured=False)
    time, read = min(near, key=lambda found: abs(found[1] - sizes.read))
    return Estimate(trial, sizes, steps * time * sizes.read / read, measured=False)


def _kind(config: RunConfig) -> str:
    """Runs of one kind make equally long steps."""
    training = config.training.model_copy(update={"learning_rate": 1.0, "hidden_lr": 1.0})
    settings = config.settings.model_copy(update={"training": training})
    same = {"seed": 0, "out": Path(), "settings": settings}
    return config.model_copy(update=same).to_json()


def step_seconds(trial: Trial) -> float:
    """Make a few steps of a trial, and return the median of their seconds, data included."""
    from embshare.tasks.training import counted, train

    config = trial.config
    task = prepared_task(config)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "run")
        model = Models(task, Path(scratch)).model(config)
        if config.share is not None:
            start = torch.Generator().manual_seed(config.seed)
            embshare.share_from_embedding(model, config.share, generator=start)
        feed = task.feed()
        steps = counted(config.training, feed).steps
        few = {"epochs": None, "steps": min(STEPS, steps), "average": 1, "trackers": ()}
        settings = config.training.model_copy(update=few)
        made = train(model, feed, settings, seed=config.seed, folder=folder, on_step=lambda: None)
    return statistics.median(made.step_ms[1:] or made.step_ms) / 1000


def estimates_table(found: Sequence[Estimate]) -> Table:
    """The trials of a study before they are run: sizes, and minutes of training."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("trial", overflow="fold")
    for heading in ("stored", "bytes\non disk", "solved", "training"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each_one in found:
        sizes, trial = each_one.sizes, each_one.trial
        solved = ", ".join(f"{name} {value}" for name, value in trial.solved.items())
        table.add_row(
            escape(trial.name),
            "" if sizes is None else f"{sizes.stored:,}",
            "" if sizes is None else f"{sizes.bytes_on_disk:,}",
            solved,
            _time(each_one),
        )
    return table


def _time(found: Estimate) -> str:
    if found.seconds is None:
        return ""
    return _clock(found.seconds) if found.measured else f"~{_clock(found.seconds)}"


def _clock(seconds: float) -> str:
    if seconds >= SHORT:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.0f} s"


def estimates_total(found: Sequence[Estimate], jobs: int) -> str:
    """What the trials take together, in a sentence."""
    seconds = sum(each_one.seconds or 0 for each_one in found)
    size = sum(each_one.sizes.bytes_on_disk for each_one in found if each_one.sizes)
    unknown = sum(each_one.sizes is None for each_one in found)
    more = f" {unknown} start from others, and are not in these numbers." * bool(unknown)
    return (
        f"{len(found)} trials, about {_clock(seconds / jobs)} of training with {jobs} at a "
        f"time (reading data and evaluation come on top), {size / 1e6:,.1f} MB of models.{more}"
    )
