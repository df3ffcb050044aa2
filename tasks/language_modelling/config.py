"""Settings of the language-modelling task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from embshare.tasks.settings import TaskConfig, TrainSettings

__all__ = ["LanguageModellingConfig"]

SUBWORDS: Final = 2_000


class LanguageModellingConfig(TaskConfig):
    """Text, symbols, windows and the size of the matched models.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar = frozenset({"data", "length", "stride", "training"})

    data: Path | None = None
    """A folder in the layout of WikiText or the Penn Treebank; ``None`` is the text that comes with
    Python."""
    level: Literal["subword", "word"] = "subword"
    """``word`` counts as published word-level perplexities do, ``subword`` gives bits per byte."""
    vocabulary_size: Annotated[int, Field(ge=1)] | None = None
    """Symbols. ``None`` is 2,000 subwords, or every word of the training side: words that are left
    out count as one, which makes perplexities lower than published ones."""
    tokenizer: str | None = None
    """A tokenizer of transformers, by folder or name, in place of subwords that are learned: for
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
    """Symbols that a row predicts, in training and evaluation, each in sight of those before it in
    the row. The model reads the last of them too, so one of transformers needs a position more."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """Symbols from one evaluation window to the next; ``None`` is ``length``: end to end. Half of
    it gives every symbol more to be predicted from, at twice the work."""
    training: TrainSettings = TrainSettings()

    @model_validator(mode="before")
    @classmethod
    def _size_of_subwords(cls, given: Any) -> Any:
        """As a number, so that a saved value says what was learned."""
        if not isinstance(given, dict) or given.get("level", "subword") != "subword":
            return given
        if given.get("vocabulary_size") is not None:
            return given
        return {**given, "vocabulary_size": SUBWORDS}

    @model_validator(mode="after")
    def _no_contradiction(self) -> LanguageModellingConfig:
        if self.stride is not None and self.stride > self.length:
            raise ValueError(
                f"`stride` must be at most `length` ({self.length}), or some symbols would not "
                f"be predicted, but is {self.stride}"
            )
        if self.level == "word" and self.tokenizer is not None:
            raise ValueError(
                "`tokenizer` must be left out where `level` is 'word', since it has its own "
                f"symbols, but is {self.tokenizer!r}"
            )
        return self

    @property
    def evaluation_stride(self) -> int:
        """The stride, with its default resolved."""
        return self.length if self.stride is None else self.stride
