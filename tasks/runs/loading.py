"""Load the model of a finished run, to evaluate or use it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from embshare.tasks.catalogue import TASKS
from embshare.tasks.changing import scored_with
from embshare.tasks.processes import process_state
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.folder import RunFolder
from embshare.tasks.saving import load_trained
from embshare.tasks.task import Processor

__all__ = ["FinishedRun", "evaluate", "load_run"]


@dataclass(frozen=True)
class FinishedRun:
    """A trained model with its settings and its processor."""

    config: RunConfig
    processor: Processor
    model: nn.Module

    def evaluate(self, changes: Mapping[str, Any], *, folder: Path) -> dict[str, float]:
        """Compute metrics by name.

        Args:
            changes: changes of the task's settings: other ``data``, another beam size.
            folder: folder for samples and predictions.
        Raises:
            FixedSettingError: the trained model depends on a setting that would change.
            EmbshareError: settings are invalid, or data cannot be read.
        """
        settings = scored_with(self.config.settings, changes)
        prepared = TASKS[self.config.task].task(settings).prepare(self.processor)
        prepared.processor.check_reads(self.config.model, self.model)
        return dict(prepared.evaluate(self.model, folder=folder))


def load_run(folder: Path) -> FinishedRun:
    """Load the folder of a finished run; the model goes to the accelerator, if any.

    Raises:
        NoRunError: the folder holds no run.
        EmbshareError: a part of it is missing or damaged.
    """
    parts = RunFolder(folder)
    config = parts.read_config()
    processor = config.to_task().load_processor(parts.processor)
    model = load_trained(parts.model, processor, config.model)
    return FinishedRun(config, processor, model.to(process_state().device))


def evaluate(
    run: Path, changes: Mapping[str, Any] | None = None, *, samples: Path | None = None
) -> dict[str, float]:
    """Evaluate a finished run again: on other data, or with other settings.

    Args:
        run: folder of the run.
        changes: changes of the task's settings: other ``data``, another beam size.
        samples: folder for samples and predictions; ``None`` keeps none.
    Returns:
        Metrics by name.
    Raises:
        NoRunError: the folder holds no run.
        FixedSettingError: the trained model depends on a setting that would change.
        EmbshareError: settings are invalid, or data cannot be read.
    """
    found = load_run(run)
    if samples is not None:
        return found.evaluate(changes or {}, folder=samples)
    with tempfile.TemporaryDirectory() as scratch:
        return found.evaluate(changes or {}, folder=Path(scratch))
