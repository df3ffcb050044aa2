"""A run that is there already: its model, to evaluate it on other data or to use it."""

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
    """A trained model with all that it needs."""

    config: RunConfig
    processor: Processor
    model: nn.Module

    @classmethod
    def load(cls, root: Path) -> Self:
        """Read a folder that a run wrote to its end; the model goes to the accelerator, if any.

        Raises:
            NoRunError: it is no such folder.
            EmbshareError: a part of it is missing or not as it was written.
        """
        folder = RunFolder(root)
        config = folder.read_config()
        processor = config.to_task().load_processor(folder.processor)
        model = load_trained(folder.model, processor, config.model)
        return cls(config, processor, model.to(process_state().device))

    def evaluate(self, changes: Mapping[str, Any], *, folder: Path) -> dict[str, float]:
        """Metrics by name.

        Args:
            changes: of the task's settings: other ``data``, another beam.
            folder: for samples and predictions.
        Raises:
            FixedSettingError: settings that the trained model stands and falls with.
            EmbshareError: settings that cannot be, data that cannot be read.
        """
        settings = scored_with(self.config.settings, changes)
        prepared = TASKS[self.config.task].task(settings).prepare(self.processor)
        prepared.processor.check_reads(self.config.model, self.model)
        return dict(prepared.evaluate(self.model, folder=folder))
