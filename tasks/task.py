"""Interface of a task, for training, evaluation and comparison of models.

It has three parts. `Task` holds the settings and has read no data. `PreparedTask` has read and
checked them. `Processor` is saved with a trained model: vocabularies and transforms without data,
so that a saved model can be used where the data are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from embshare.tasks.settings import TrainSettings

__all__ = [
    "Batch",
    "Feed",
    "Metric",
    "Objective",
    "OnStep",
    "PreparedTask",
    "Processor",
    "Task",
    "Training",
    "described",
]

Batch: TypeAlias = dict[str, Tensor]
"""Keyword arguments of a model's forward."""

Objective: TypeAlias = Callable[[nn.Module, Batch, int], Tensor]
"""Loss of a model on a batch; the number is that of the steps that are left, this one counted."""

OnStep: TypeAlias = Callable[[], None]
"""Called after every training step, for a progress bar."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Metric by which a task's models are compared."""

    name: str
    """Key in what `PreparedTask.evaluate` returns."""
    label: str
    """Label of a plot's axis, with its unit."""
    better: Literal["lower", "higher"]
    """Direction of improvement."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Measurements of a training run."""

    step_ms: tuple[float, ...]
    """Milliseconds per step: forward, backward and update, without reading data."""
    loss: float
    """Mean training loss over the run, in the task's unit; NaN where nobody logged it."""
    seconds: float
    """Seconds of training, reading data included; for a resumed run the sum over its parts, without
    steps that were repeated."""
    stopped: bool = False
    """Whether it was stopped before its last step, with a checkpoint."""
    curve: tuple[Mapping[str, float], ...] = ()
    """Logged points: ``step``, ``loss``, ``learning_rate``, ``grad_norm``,
    ``seconds``."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Training set of a model, and what is minimised on it."""

    rows: Dataset[Any]
    """Examples; an ``IterableDataset`` streams."""
    collate: Callable[[list[Any]], Batch] | None = None
    """Makes a batch of examples; ``None`` stacks their tensors."""
    batches: Callable[[int], Sampler[list[int]]] | None = None
    """Sampler of batches for a seed, for tasks whose batches are not a fixed number of rows. The
    sampler has ``__len__`` and ``set_epoch``. ``None``: rows in random order,
    `TrainSettings.batch_size` at a time."""
    objective: Objective | None = None
    """Loss to minimise; ``None`` is the loss that the model returns. It may take entries out of a
    batch that the model's forward does not know."""
    rate: Callable[[int], float] | None = None
    """Factor of the schedule's learning rate, by the number of steps that are left, this one
    counted; ``None`` is 1."""
    next_token: bool = False
    """Whether logits at a position predict the label after it, as in causal models."""
    compared: Callable[[Tensor, Batch], Tensor] | None = None
    """Makes the logits that are distilled from a model's ``logits`` and a batch, where models
    arrange them differently; ``None`` takes the logits of labelled positions."""
    not_taught: str | None = None
    """Why distillation is impossible here, as the end of a sentence; ``None``: it is possible."""


class Processor(Protocol):
    """Conversion between text or images and a model's tensors, saved beside the model."""

    def save(self, folder: Path) -> None:
        """Write all that `Task.load_processor` needs into an existing folder."""
        ...

    def build(self, model: str, seed: int) -> nn.Module:
        """Build a dense model, or load a saved one; torch's random state is left as it was.

        Args:
            model: ``lstm``, ``conv`` or ``attention`` of the matched family; else ``embshare:NAME``
                or a model of transformers, by folder or name, as far as the task takes them.
            seed: seed of the initialization.
        Raises:
            EmbshareError: the task has no such model.
        """
        ...

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Check that a model can read rows as long as the settings ask for.

        Args:
            name: name of the model, as for `build`, which checks this too.
            model: model of that name; matched models read rows of any length.
        Raises:
            EmbshareError: it cannot.
        """
        ...

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """Predict one line of output for each line of input, in order.

        A line is a sentence to translate, an image file to caption, a text to continue, or a row to
        classify (its sentences separated by tabs).
        """
        ...


class PreparedTask(Protocol):
    """A task with its data, read and checked."""

    @property
    def metric(self) -> Metric:
        """Metric to compare models by."""
        ...

    @property
    def training(self) -> TrainSettings:
        """Training settings."""
        ...

    @property
    def processor(self) -> Processor:
        """Processor that is saved beside a model trained on these data."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Describe the data: sources, sizes, fingerprints; of JSON's types."""
        ...

    def feed(self) -> Feed:
        """Training set."""
        ...

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Compute metrics by name, `metric` among them.

        Args:
            model: dense or shared model; left on its device.
            folder: existing folder for samples and predictions.
        """
        ...


AnyProcessor = TypeVar("AnyProcessor", bound=Processor)


class Task(Protocol[AnyProcessor]):
    """A task that has not read its data yet."""

    def prepare(
        self, processor: AnyProcessor | None = None, *, train: bool = False
    ) -> PreparedTask:
        """Read and check all data.

        Args:
            processor: processor of a trained model, to evaluate it; ``None`` learns one from the
                training set.
            train: with a processor, whether another model will be trained with it. Otherwise the
                training set is optional.
        Raises:
            EmbshareError: data are missing or invalid; with file and line.
        """
        ...

    def load_processor(self, folder: Path) -> AnyProcessor:
        """Load what `Processor.save` wrote.

        Raises:
            EmbshareError: files are missing or damaged.
        """
        ...


def described(task: PreparedTask) -> dict[str, Any]:
    """Return `PreparedTask.describe` as JSON loads it, to compare it with a saved one."""
    found: dict[str, Any] = json.loads(json.dumps(dict(task.describe())))
    return found
