"""Load the model of a finished run, to evaluate or use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import nn

from embshare.tasks.catalogue import TASKS
from embshare.tasks.changing import scored_with
from embshare.tasks.processes import process_state
from embshare.tasks.running.config import RunConfig
from embshare.tasks.running.folder import RunFolder
from embshare.tasks.saving import load_trained
from embshare.tasks.task import Processor

__all__ = ["FinishedRun"]


@dataclass(frozen=True)
class FinishedRun:
    """A trained model with its settings and its processor."""

    config: RunConfig
    processor: Processor
    model: nn.Module

    @classmethod
    def load(cls, root: Path) -> Self:
        """Load the folder of a finished run; the model goes to the accelerator, if any.

        Raises:
            NoRunError: the folder holds no run.
            EmbshareError: a part of it is missing or damaged.
        """
        folder = RunFolder(root)
        config = folder.read_config()
        processor = config.to_task().load_processor(folder.processor)
        model = load_trained(folder.model, processor, config.model)
        return cls(config, processor, model.to(process_state().device))

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
