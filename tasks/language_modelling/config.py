"""Settings of the language-modelling task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from embshare.tasks.settings import TaskConfig, TrainSettings

__all__ = ["LanguageModellingConfig"]

SUBWORDS: Final = 2_000


class LanguageModellingConfig(TaskConfig):
    """Text, tokens, windows and the size of the matched models.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar = frozenset({"data", "length", "stride", "training", "eval_limit"})

    data: Path | None = None
    """Folder in the layout of WikiText or the Penn Treebank, or ``hub:NAME`` or
    ``hub:NAME:CONFIG``, a data set of the hub with a column ``text``
    (``hub:Salesforce/wikitext:wikitext-2-v1``); ``None`` is the text that comes with Python."""
    level: Literal["subword", "word"] = "subword"
    """Vocabulary level: ``word`` gives word-level perplexities as published ones are, ``subword``
    bits per byte."""
    vocabulary_size: Annotated[int, Field(ge=1)] | None = None
    """Vocabulary size (tokens). ``None`` is 2,000 subwords, or every word of the training set:
    words that are left out count as one token, which makes perplexities lower than published
    ones."""
    tokenizer: str | None = None
    """Path or name of a pretrained tokenizer of transformers, in place of learned subwords: for
    models that come with one."""
    width: Annotated[int, Field(ge=1)] = 96
    """Width of the embedding table and of all layers."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Number of layers of each model."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Number of attention heads of the attention model."""
    kernel_size: Annotated[int, Field(ge=1)] = 3
    """Kernel size of the convolutions, in positions."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout of embeddings and of layers' outputs."""
    length: Annotated[int, Field(ge=1)] = 32
    """Sequence length (predicted tokens), in training and evaluation; each token sees those before
    it in the sequence. The last token is read too, so a model of transformers needs one position
    more."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """Stride of evaluation windows (tokens); ``None`` is `length`: windows do not overlap. Half of
    it gives every token more context, at twice the cost."""
    training: TrainSettings = TrainSettings()

    @model_validator(mode="before")
    @classmethod
    def _size_of_subwords(cls, given: Any) -> Any:
        """Resolve the default, so that saved settings have the size that was learned."""
        if not isinstance(given, dict) or given.get("level", "subword") != "subword":
            return given
        if given.get("vocabulary_size") is not None:
            return given
        return {**given, "vocabulary_size": SUBWORDS}

    @model_validator(mode="after")
    def _no_contradiction(self) -> LanguageModellingConfig:
        if self.stride is not None and self.stride > self.length:
            raise ValueError(
                f"`stride` must be at most `length` ({self.length}), or some tokens would not "
                f"be predicted, but is {self.stride}"
            )
        if self.level == "word" and self.tokenizer is not None:
            raise ValueError(
                "`tokenizer` must be left out where `level` is 'word', since it has its own "
                f"vocabulary, but is {self.tokenizer!r}"
            )
        return self

    @property
    def evaluation_stride(self) -> int:
        """Stride of evaluation, with its default resolved."""
        return self.length if self.stride is None else self.stride
