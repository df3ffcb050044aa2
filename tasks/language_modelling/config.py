"""Settings of the language-modelling task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from embshare._value import Value
from embshare.tasks.settings import TrainSettings

__all__ = ["LanguageModellingConfig"]


class LanguageModellingConfig(Value):
    """Text, symbols, windows and the size of the matched models.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    data: Path | None = None
    """A folder in the WikiText layout; ``None`` is the text that comes with Python."""
    level: Literal["subword", "word"] = "subword"
    """``word`` counts as published word-level perplexities do, ``subword`` gives bits per byte."""
    vocabulary_size: Annotated[int, Field(ge=1)] | None = 2_000
    """Symbols; ``None``, for words alone, is every word of the training side."""
    tokenizer: str | None = None
    """A tokenizer of transformers, by folder or name, in place of a vocabulary that is learned: for
    models that come with one."""
    width: Annotated[int, Field(ge=1)] = 96
    """Columns of the table, and width of all layers."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Layers of each model."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Heads of the attention model."""
    kernel_size: Annotated[int, Field(ge=1)] = 3
    """Positions that one convolution sees."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    length: Annotated[int, Field(ge=1)] = 32
    """Symbols that a model sees at once, in training and evaluation."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """Symbols from one evaluation window to the next; ``None`` is ``length``: end to end. Half of
    it gives every symbol more to be predicted from, at twice the work."""
    training: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _no_contradiction(self) -> LanguageModellingConfig:
        if self.stride is not None and self.stride > self.length:
            raise ValueError(
                f"`stride` must be at most `length` ({self.length}), or some symbols would not "
                f"be predicted, but is {self.stride}"
            )
        if self.level == "subword" and self.vocabulary_size is None:
            raise ValueError("`vocabulary_size` must be a number where `level` is 'subword'")
        return self

    @property
    def evaluation_stride(self) -> int:
        """The stride, with its default resolved."""
        return self.length if self.stride is None else self.stride
