"""Distil the model of an earlier run into that of a new one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.errors import EmbshareError
from embshare.models.matched.embedding import IGNORED
from embshare.tasks.distillation import Teacher, mix_losses
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.folder import RunFolder
from embshare.tasks.runs.loading import load_run
from embshare.tasks.task import Batch, Feed, PreparedTask

__all__ = ["TeacherRunError", "prepare_taught", "taught"]


class TeacherRunError(EmbshareError, ValueError):
    """A run cannot be the teacher of this one."""

    def __init__(self, *, folder: Path, finding: str) -> None:
        super().__init__(
            f"`teacher` must be a run of the same task whose loss is the model's own, but {folder} "
            f"{finding}. Name another, or leave it out."
        )
        self.folder, self.finding = folder, finding


class Taught(NamedTuple):
    """A task prepared with the vocabulary of its teacher, and the teacher's model."""

    task: PreparedTask
    teacher: nn.Module


def prepare_taught(config: RunConfig) -> Taught:
    """Load the teacher, and prepare the task with its processor.

    Args:
        config: settings with a `RunConfig.teacher`.
    Raises:
        TeacherRunError: the teacher was trained on a different task.
        EmbshareError: its folder or the data cannot be read.
    """
    assert config.teacher is not None
    found = load_run(config.teacher)
    if found.config.task != config.task:
        raise TeacherRunError(folder=config.teacher, finding=f"is one of {found.config.task}")
    task = config.to_task()
    processor = task.load_processor(RunFolder(config.teacher).processor)
    return Taught(task.prepare(processor, train=True), found.model)


def taught(feed: Feed, teacher: nn.Module, student: nn.Module, config: RunConfig) -> Feed:
    """Add the distillation loss to a feed.

    Raises:
        TeacherRunError: the task's objective cannot be distilled.
        InvalidValueError: the labels of the teacher differ.
    """
    assert config.teacher is not None
    if feed.not_taught is not None:
        raise TeacherRunError(folder=config.teacher, finding=feed.not_taught)
    if feed.objective is not None:
        raise TeacherRunError(
            folder=config.teacher,
            finding="would be mixed with another loss: set label_smoothing or scst_steps to 0",
        )
    asked = Teacher(teacher, student)

    def objective(model: nn.Module, batch: Batch, left: int) -> Tensor:
        outputs: Any = model(**batch)
        own = outputs["logits"]
        scores = asked.scores(batch, names=())  # with labels, so that the same positions are scored
        if feed.compared is not None:
            own, scores = feed.compared(own, batch), feed.compared(scores, batch)
        return mix_losses(
            outputs["loss"],
            own,
            scores,
            share=config.teacher_share,
            temperature=config.temperature,
            labels=_scored(batch, own, next_token=feed.next_token),
        )

    return replace(feed, objective=objective)


def _scored(batch: Batch, logits: Tensor, *, next_token: bool) -> Tensor | None:
    """Labels at the positions of their logits; ``None`` where they do not correspond."""
    labels = batch["labels"]
    if labels.shape != logits.shape[:-1] or labels.is_floating_point():
        return None
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED) if next_token else labels
