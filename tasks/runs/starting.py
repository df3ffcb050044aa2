"""Start a run from the trained model of an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import nn

import embshare
from embshare.errors import EmbshareError
from embshare.runtime.bank import bank_of
from embshare.tasks.changing import scored_with
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.folder import RunFolder
from embshare.tasks.runs.loading import load_run
from embshare.tasks.task import PreparedTask

__all__ = ["StartRunError", "Started", "prepare_started"]


class StartRunError(EmbshareError, ValueError):
    """A run cannot be what this one starts from."""

    def __init__(self, *, folder: Path, finding: str) -> None:
        super().__init__(
            f"`start` must be a run of the same task and model, but {folder} {finding}. Name "
            "another, or leave out what differs."
        )
        self.folder, self.finding = folder, finding


class Started(NamedTuple):
    """A task prepared with the processor of a run, that run's model, and the new run's settings."""

    task: PreparedTask
    model: nn.Module
    config: RunConfig


def prepare_started(config: RunConfig) -> Started:
    """Load the model that a run starts from, and prepare the task with its processor.

    Sizes and vocabulary are those of the earlier run; a setting that is at its default counts as
    not given. A shared model becomes dense if it is to be shared in another way.

    Args:
        config: settings with a `RunConfig.start`.
    Raises:
        StartRunError: the run was of another task, or of another model.
        FixedSettingError: settings differ that the model depends on.
        EmbshareError: its folder or the data cannot be read.
    """
    assert config.start is not None
    found = load_run(config.start)
    if found.config.task != config.task:
        raise StartRunError(folder=config.start, finding=f"is one of {found.config.task}")
    default = RunConfig.model_fields["model"].default
    if config.model not in (default, found.config.model):
        raise StartRunError(folder=config.start, finding=f"trained {found.config.model}")
    kind = type(config.settings)
    usual = kind()
    given = {
        name: getattr(config.settings, name)
        for name in kind.model_fields
        if name != "training" and getattr(config.settings, name) != getattr(usual, name)
    }
    settings = scored_with(found.config.settings, given)
    settings = settings.model_copy(update={"training": config.training})
    model = found.model.cpu()
    if config.share is not None and bank_of(model) is not None:
        model = embshare.materialize(model)
    settled = config.model_copy(update={"settings": settings, "model": found.config.model})
    task = settled.to_task()
    processor = task.load_processor(RunFolder(config.start).processor)
    return Started(task.prepare(processor, train=True), model, settled)
