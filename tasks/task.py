"""What every task offers to whoever trains and compares models on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from torch import nn

from embshare.models.matched import Architecture

__all__ = ["Metric", "OnStep", "PreparedTask", "Task", "Training"]

OnStep: TypeAlias = Callable[[], None]
"""Called after every training step, for whoever draws progress."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The one number by which a task's models are compared."""

    name: str
    """Its key among what `PreparedTask.evaluate` returns."""
    label: str
    """With its unit, as a picture's axis carries it."""
    better: Literal["lower", "higher"]
    """Which way is better."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training run measured."""

    step_ms: tuple[float, ...]
    """Milliseconds of every step: forward, backward and update, without reading data."""
    loss: float
    """Mean training loss over the run, in the task's unit."""


class PreparedTask(Protocol):
    """A task whose data are read and checked; making one is quick to fail."""

    @property
    def metric(self) -> Metric:
        """The number to compare by."""
        ...

    @property
    def steps(self) -> int:
        """Training steps that one model is to have."""
        ...

    def describe(self) -> Mapping[str, object]:
        """What the data are: sources, sizes, fingerprints; as JSON can hold it."""
        ...

    def build(self, architecture: Architecture, seed: int) -> nn.Module:
        """A new dense model of the matched family."""
        ...

    def train(
        self, model: nn.Module, *, steps: int, seed: int, folder: Path, on_step: OnStep
    ) -> Training:
        """Train a model, dense or shared, in place; ``folder`` takes whatever files that needs."""
        ...

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Metrics by name, the task's own `metric` among them."""
        ...


class Task(Protocol):
    """A task that still has to read its data."""

    def prepare(self) -> PreparedTask:
        """Read and check all data.

        Raises:
            EmbshareError: they are missing, or not as they must be.
        """
        ...
