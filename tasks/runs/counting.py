"""Count what a run would store and read, without training."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import embshare
from embshare.summary import Summary
from embshare.tasks.measurement.sizes import Sizes, sizes_of
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.engine import build_model_of
from embshare.tasks.runs.starting import prepare_started
from embshare.tasks.runs.teaching import prepare_taught
from embshare.tasks.runs.vocabulary import with_own_tokenizer
from embshare.tasks.saving import save_trained
from embshare.tasks.task import described

__all__ = ["Count", "count_run"]


@dataclass(frozen=True)
class Count:
    """What a run would leave, before any step."""

    config: RunConfig
    data: dict[str, Any]
    """Description of the data by the task."""
    sizes: Sizes
    summary: Summary | None
    """What is shared; ``None`` of a dense model."""


def count_run(config: RunConfig) -> Count:
    """Build the model of a run, save it into a folder of its own, and remove that.

    Raises:
        EmbshareError: data cannot be read, there is no such model, or the plan does not fit it.
    """
    config = with_own_tokenizer(config)
    started = None if config.start is None else prepare_started(config)
    if started is not None:
        config, task = started.config, started.task
    elif config.teacher is not None:
        task = prepare_taught(config).task
    else:
        task = config.to_task().prepare()
    model = build_model_of(config, task, started)
    with tempfile.TemporaryDirectory() as scratch:
        save_trained(model, Path(scratch))
        sizes = sizes_of(model, Path(scratch))
    summary = None if config.share is None else embshare.summarize(model)
    return Count(config, described(task), sizes, summary)
