"""Settings of the GLUE tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, model_validator

from embshare.tasks.settings import TaskConfig, TrainSettings

__all__ = ["GlueConfig"]

BUILT_IN: Final = ("cola", "sst2", "mrpc", "stsb", "rte")
"""The tasks with built-in data; a test holds them to the grammar."""


class GlueConfig(TaskConfig):
    """Which task, its data, its vocabulary and the size of the matched models.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar = frozenset(
        {"data", "hub", "skip_bad_rows", "test_side", "length", "training"}
    )
    sources: ClassVar = ("data", "hub")

    name: Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"] = "stsb"
    """One of the nine tasks."""
    data: Path | None = None
    """The folder of the GLUE download, or of one task in it; ``None``, where `hub` is ``None`` too,
    is data made by a grammar, for cola, sst2, mrpc, stsb and rte."""
    hub: str | None = None
    """A set of the hub in place of `data`: nyu-mll/glue."""
    skip_bad_rows: bool = False
    """Leave out lines of wrong column counts or labels, and count them, instead of stopping; never
    those of the test side."""
    most_rows: Annotated[int, Field(ge=1)] | None = None
    """No more than so many rows of the training side are learned from, from its beginning."""
    vocabulary_size: Annotated[int, Field(ge=1)] = 4_000
    """Symbols of a vocabulary that is learned from the training side, at most."""
    tokenizer: str | None = None
    """A tokenizer of transformers, by folder or name, in place of a vocabulary that is learned: for
    models that come with one."""
    test_side: bool = True
    """Predict the test side too, where there is one, in the form that the GLUE server takes."""
    token_types: bool | None = None
    """Tell models which of two sentences a symbol is of; ``None``: yes, unless a `tokenizer` is
    named whose models are not told."""
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
    length: Annotated[int, Field(ge=8)] = 128
    """Most symbols of a row; of two sentences the longer one is cut first."""
    training: TrainSettings = TrainSettings(
        steps=300, batch_size=32, eval_batch_size=64, learning_rate=1e-2
    )

    @model_validator(mode="after")
    def _no_contradiction(self) -> GlueConfig:
        if self.data is not None and self.hub is not None:
            raise ValueError("`data` and `hub` exclude each other: leave one out")
        if self.data is None and self.hub is None and self.name not in BUILT_IN:
            raise ValueError(
                f"`name` must be one of {', '.join(BUILT_IN)} where no `data` and no `hub` are "
                f"named, but is {self.name!r}"
            )
        return self
