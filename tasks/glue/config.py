"""Settings of the GLUE tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

from pydantic import Field, model_validator

from embshare.tasks.settings import TaskConfig, TrainSettings

__all__ = ["BUILT_IN", "GlueConfig", "GlueName"]

GlueName: TypeAlias = Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]
"""The tasks, by the names that the hub has for them."""
BUILT_IN: Final[tuple[GlueName, ...]] = ("cola", "sst2", "mrpc", "stsb", "rte")
"""The tasks with built-in data; a test holds them to the grammar."""


class GlueConfig(TaskConfig):
    """The GLUE task, its data, vocabulary and the size of the matched models.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar = frozenset(
        {"data", "skip_bad_rows", "test_set", "length", "training", "eval_limit"}
    )

    name: GlueName = "stsb"
    """GLUE task."""
    data: Path | None = None
    """Folder of the GLUE download, or of one task in it, or ``hub:NAME``, a data set of the hub
    (``hub:nyu-mll/glue``); ``None`` is data made by a grammar, for cola, sst2, mrpc, stsb and
    rte."""
    skip_bad_rows: bool = False
    """Skip and count lines with wrong column counts or labels, instead of stopping; never those of
    the test set."""
    most_rows: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of training examples, taken from the beginning of the training set."""
    vocabulary_size: Annotated[int, Field(ge=1)] = 4_000
    """Maximum vocabulary size (tokens), learned from the training set."""
    tokenizer: str | None = None
    """Path or name of a pretrained tokenizer of transformers, in place of a learned vocabulary: for
    models that come with one."""
    test_set: bool = True
    """Predict the test set too, where there is one, in the format of the GLUE server."""
    token_types: bool | None = None
    """Pass token type ids, which say which of two sentences a token belongs to; ``None``: yes,
    unless a `tokenizer` is named that makes none."""
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
    length: Annotated[int, Field(ge=8)] = 128
    """Maximum sequence length (tokens); of two sentences the longer one is truncated first."""
    training: TrainSettings = TrainSettings(
        steps=300, batch_size=32, eval_batch_size=64, learning_rate=1e-2
    )

    @model_validator(mode="after")
    def _no_contradiction(self) -> GlueConfig:
        if self.data is None and self.name not in BUILT_IN:
            raise ValueError(
                f"`name` must be one of {', '.join(BUILT_IN)} where no `data` are named, but is "
                f"{self.name!r}"
            )
        return self
