"""Settings of SQuAD."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from embshare.tasks.settings import TaskConfig, TrainSettings

__all__ = ["SquadConfig"]


class SquadConfig(TaskConfig):
    """Version of SQuAD, data, windows, vocabulary and the size of the matched models.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar = frozenset(
        {
            *("data", "version", "length", "question_length", "stride"),
            *("best", "answer_length", "null_threshold", "training", "eval_limit"),
        }
    )

    version: Literal["1.1", "2.0"] = "1.1"
    """SQuAD version; in 2.0 some questions have no answer in their passage."""
    data: Path | None = None
    """Folder with train-v1.1.json and dev-v1.1.json (or v2.0), or ``hub:NAME``, a data set of the
    hub (``hub:rajpurkar/squad``, ``hub:rajpurkar/squad_v2``); ``None`` is data made by a
    grammar."""
    vocabulary_size: Annotated[int, Field(ge=1)] = 8_000
    """Maximum vocabulary size (tokens), learned from the training set."""
    tokenizer: str | None = None
    """Path or name of a pretrained tokenizer of transformers, in place of a learned vocabulary: for
    models that come with one."""
    token_types: bool | None = None
    """Pass token type ids, which say which tokens belong to the passage; the matched models and
    ConvBERT need them. ``None``: yes, unless a `tokenizer` is named that makes none."""
    init_from: Path | None = None
    """Run of ``embshare train pretraining`` to start from: its embedding table, layers, vocabulary
    and sizes."""
    width: Annotated[int, Field(ge=1)] = 96
    """Width of the embedding table and of all layers of the matched models."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Number of layers of the matched models."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Number of attention heads of the attention model."""
    kernel_size: Annotated[int, Field(ge=1)] = 3
    """Kernel size of the convolutions, in positions."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout of the matched models; others have theirs in their configurations."""
    length: Annotated[int, Field(ge=32)] = 384
    """Maximum length of a window (tokens): question, part of the passage and separators."""
    question_length: Annotated[int, Field(ge=4)] = 64
    """Maximum question length (tokens); longer questions are truncated."""
    stride: Annotated[int, Field(ge=1)] = 128
    """Stride from one window of a passage to the next (tokens), where it does not fit into one."""
    best: Annotated[int, Field(ge=1)] = 20
    """Number of start and end positions of each window, and of answers to each question, that are
    considered."""
    answer_length: Annotated[int, Field(ge=1)] = 30
    """Maximum answer length (tokens)."""
    null_threshold: float = 0.0
    """Threshold of the no-answer score, in 2.0: no answer is given where its score exceeds that of
    the best answer by more than this."""
    training: TrainSettings = TrainSettings(
        steps=400, batch_size=32, eval_batch_size=64, learning_rate=1e-2
    )

    @model_validator(mode="after")
    def _no_contradiction(self) -> SquadConfig:
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
