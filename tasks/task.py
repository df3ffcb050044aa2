"""What every task offers to whoever trains, evaluates and compares models on it.

A task goes through three hands. `Task` is its settings and has read nothing. `PreparedTask` has its
data, read and checked. `Processor` is what stays with a trained model: vocabularies and transforms,
without any data, so that a saved model can be used where the data are not.
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
"""From a model, a batch and the number of steps that are left, this one counted, to a loss."""

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
    """Mean training loss over the run, in the task's unit; NaN where nobody logged it."""
    seconds: float
    """That the run took, reading data included; of one that was taken up again, in all its parts,
    without what was made again."""
    curve: tuple[Mapping[str, float], ...] = ()
    """What was logged on the way: ``step``, ``loss``, ``learning_rate``, ``grad_norm``,
    ``seconds``."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What a model is trained on."""

    rows: Dataset[Any]
    """One example each; an ``IterableDataset`` streams."""
    collate: Callable[[list[Any]], Batch] | None = None
    """Examples to a batch; ``None`` stacks their tensors."""
    batches: Callable[[int], Sampler[list[int]]] | None = None
    """From a seed to batches of row numbers, for tasks whose batches are not a fixed number of
    rows. The sampler has ``__len__`` and ``set_epoch``. ``None``: rows in random order,
    `TrainSettings.batch_size` at a time."""
    objective: Objective | None = None
    """What is minimised; ``None`` is the loss that the model returns. It may take from a batch what
    the model's forward does not know."""
    rate: Callable[[int], float] | None = None
    """From the number of steps that are left, this one counted, to a factor of the schedule's
    learning rate; ``None`` is 1."""
    next_symbol: bool = False
    """Whether the scores at a position are for the label after it, as in causal models."""
    compared: Callable[[Tensor, Batch], Tensor] | None = None
    """From a model's ``logits`` and a batch to the scores in which it learns from a teacher, where
    models lay them out differently; ``None`` takes the logits of labelled positions."""
    not_taught: str | None = None
    """Why no model can learn from a teacher here, as the end of a sentence; ``None``: they can."""


class Processor(Protocol):
    """What stands between text or images and a model, and is saved beside it."""

    def save(self, folder: Path) -> None:
        """Write all that `Task.load_processor` needs, into a folder that is there."""
        ...

    def build(self, model: str, seed: int) -> nn.Module:
        """A new dense model, or a saved one; torch's random state stays as it was.

        Args:
            model: ``lstm``, ``conv`` or ``attention`` of the matched family; else ``embshare:NAME``
                or a model of transformers, by folder or name, as far as the task takes them.
            seed: of the random start; the same gives the same model.
        Raises:
            EmbshareError: the task has no such model.
        """
        ...

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Find a model that cannot read rows as long as the settings ask for, if they have a say.

        Args:
            name: of the model, as for `build`, which asks this too.
            model: of that name; matched models read rows of any length.
        Raises:
            EmbshareError: it cannot.
        """
        ...

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """One line of output for each line of input, in order.

        A line is a sentence to translate, an image file to describe, a text to go on with, or a
        row to classify (its sentences between tabs).
        """
        ...


class PreparedTask(Protocol):
    """A task whose data are read and checked; making one is quick to fail."""

    @property
    def metric(self) -> Metric:
        """The number to compare by."""
        ...

    @property
    def training(self) -> TrainSettings:
        """How long and how fast one model is trained."""
        ...

    @property
    def processor(self) -> Processor:
        """What is saved beside a model that was trained on these data."""
        ...

    def describe(self) -> Mapping[str, object]:
        """What the data are: sources, sizes, fingerprints; as JSON can hold it."""
        ...

    def feed(self) -> Feed:
        """The training side."""
        ...

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Metrics by name, the task's own `metric` among them.

        Args:
            model: dense or shared; left on its device.
            folder: for what a person may want to see: samples, predictions. It is there.
        """
        ...


AnyProcessor = TypeVar("AnyProcessor", bound=Processor)


class Task(Protocol[AnyProcessor]):
    """A task that still has to read its data."""

    def prepare(
        self, processor: AnyProcessor | None = None, *, train: bool = False
    ) -> PreparedTask:
        """Read and check all data.

        Args:
            processor: of a model that is there already, to evaluate it; ``None`` learns one from
                the training side.
            train: with a processor, to train another model with it: the training side has to be
                there, which a task may do without where a model is only evaluated.
        Raises:
            EmbshareError: they are missing, or not as they must be; with file and line.
        """
        ...

    def load_processor(self, folder: Path) -> AnyProcessor:
        """Read back what `Processor.save` wrote.

        Raises:
            EmbshareError: files are missing or not as they were written.
        """
        ...


def described(task: PreparedTask) -> dict[str, Any]:
    """What a task says of its data, through JSON's own types: as a file gives it back."""
    found: dict[str, Any] = json.loads(json.dumps(dict(task.describe())))
    return found
