"""Settings of SQuAD."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from embshare.tasks.settings import TaskConfig, TrainSettings

__all__ = ["SquadConfig"]


class SquadConfig(TaskConfig):
    """Which SQuAD, its data, its windows, its vocabulary and the size of the matched models.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar = frozenset(
        {
            *("data", "hub", "version", "length", "question_length", "stride"),
            *("best", "answer_length", "null_threshold", "training"),
        }
    )
    sources: ClassVar = ("data", "hub")

    version: Literal["1.1", "2.0"] = "1.1"
    """In 2.0 some questions have no answer in their passage."""
    data: Path | None = None
    """A folder with train-v1.1.json and dev-v1.1.json (or v2.0); ``None``, where `hub` is ``None``
    too, is data made by a grammar."""
    hub: str | None = None
    """A set of the hub in place of `data`: rajpurkar/squad or rajpurkar/squad_v2."""
    vocabulary_size: Annotated[int, Field(ge=1)] = 8_000
    """Symbols of a vocabulary that is learned from the training side, at most."""
    tokenizer: str | None = None
    """A tokenizer of transformers, by folder or name, in place of a vocabulary that is learned: for
    models that come with one."""
    token_types: bool | None = None
    """Tell models which symbols are the passage's, which the matched models and ConvBERT need;
    ``None``: yes, unless a `tokenizer` is named whose models are not told."""
    init_from: Path | None = None
    """A run of ``embshare train pretraining`` whose table, layers and vocabulary models start from;
    sizes are the run's then."""
    width: Annotated[int, Field(ge=1)] = 96
    """Columns of the table, and width of all layers, of the matched models."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Layers of each of them."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Heads of the attention model."""
    kernel_size: Annotated[int, Field(ge=1)] = 3
    """Positions that one convolution sees."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Of the matched models; others have theirs in their configurations."""
    length: Annotated[int, Field(ge=32)] = 384
    """Most symbols of a window: question, part of the passage, and what stands between."""
    question_length: Annotated[int, Field(ge=4)] = 64
    """Most symbols of a question; the rest is cut off."""
    stride: Annotated[int, Field(ge=1)] = 128
    """Symbols of a passage from one window to the next, where it does not fit into one."""
    best: Annotated[int, Field(ge=1)] = 20
    """Starts and ends of each window, and answers of each question, that are looked at."""
    answer_length: Annotated[int, Field(ge=1)] = 30
    """Most symbols of an answer."""
    null_threshold: float = 0.0
    """In 2.0 no answer is given where its score is above that of the best answer by more than
    this."""
    training: TrainSettings = TrainSettings(
        steps=400, batch_size=32, eval_batch_size=64, learning_rate=1e-2
    )

    @model_validator(mode="after")
    def _no_contradiction(self) -> SquadConfig:
        if self.data is not None and self.hub is not None:
            raise ValueError("`data` and `hub` exclude each other: leave one out")
        if self.question_length > self.length // 2:
            raise ValueError(
                f"`question_length` must be at most half of `length` ({self.length}), but is "
                f"{self.question_length}"
            )
        return self

    @property
    def unanswerable(self) -> bool:
        """Whether a question may have no answer."""
        return self.version == "2.0"
