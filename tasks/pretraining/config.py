"""Settings of the pretraining task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from embshare.tasks.settings import TaskConfig, TrainSettings

__all__ = ["Masking", "PretrainingConfig"]

Masking = Literal["tokens", "words", "spans", "ltg_spans"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class PretrainingConfig(TaskConfig):
    """Text, symbols, rows, what is hidden, and the size of the matched models.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar = frozenset(
        {
            *("data", "dataset", "column", "documents", "held_out", "cache"),
            *("most_symbols", "most_valid_symbols", "length", "mask_share", "training"),
        }
    )
    sources: ClassVar = ("data", "dataset")

    data: Path | None = None
    """A folder in the WikiText layout, or with any text files; ``None``, where no `dataset` is
    named, is the text that comes with Python."""
    dataset: str | None = None
    """A text of the hub where no `data` is named, read as a stream:
    ``wikitext:wikitext-103-raw-v1``, a name and, after a colon, a configuration."""
    column: str = "text"
    """Of the data set: the one with the text."""
    documents: Literal["title", "blank"] = "title"
    """Where one document ends and the next begins, beside the ends of files: at WikiText's titles
    of articles, or at blank lines too."""
    held_out: Annotated[int, Field(ge=2)] = 20
    """One in so many pieces of the text validates, where the text has no validation side."""
    most_symbols: Count | None = None
    """No more than so many symbols of the training side are read; of a validation side that is held
    out, as many as it has in proportion."""
    most_valid_symbols: Count | None = None
    """No more than so many symbols of the validation side are read; ``None``, where the text has
    one of its own, reads all of it."""
    cache: Path | None = None
    """A folder in which encoded texts are kept for other runs; ``None`` keeps them, on disk too,
    for as long as the run lasts. A set of the hub without a known revision is not kept."""
    tokenization: Literal["wordpiece", "bytes"] = "wordpiece"
    """How a vocabulary is learned: word pieces, or pairs of bytes."""
    vocabulary_size: Count = 2_000
    """Symbols of that vocabulary."""
    lowercase: bool = True
    """Word pieces tell no capital letters or accents."""
    tokenizer: str | None = None
    """A tokenizer of transformers, by folder or name, in place of a vocabulary that is learned: for
    models that come with one."""
    objective: Literal["masked", "replaced"] = "masked"
    """Predict hidden words; or, with ConvBERT alone, let a generator replace words and find them,
    as ELECTRA does."""
    length: Annotated[int, Field(ge=4)] = 64
    """Symbols of a row, its first and last special ones among them."""
    late_length: Annotated[int, Field(ge=4)] | None = None
    """Longer rows at the end of the training, with fewer of them in a batch: no longer than all
    rows of a batch together."""
    late_from: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Part of the steps after which rows have `late_length`."""
    short_rows: Share = 0.0
    """Part of the rows that are cut at a random length and padded."""
    masking: Masking = "tokens"
    """What is hidden: single symbols, whole words, spans of words as in SpanBERT, or spans of
    symbols as in LTG-BERT and ELC-BERT."""
    mask_share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Part of the symbols that are predicted."""
    most_masked: Count | None = None
    """No more than so many symbols of a row are predicted; spans of ``ltg_spans`` know no such
    limit."""
    mask_copies: Count | None = None
    """Masks of each row that take turns from pass to pass, as if the text had been masked so many
    times beforehand; ``None`` draws new ones in every pass."""
    masked_part: Share = 0.8
    """Of what is predicted, what is hidden by the mask symbol."""
    random_part: Share = 0.1
    """Of what is predicted, what is replaced by a random symbol; the rest is left as it is."""
    span_stop: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Probability that a span ends after each word or symbol; ``None`` is the published one, 1/5 of
    SpanBERT or 1/3 of LTG-BERT."""
    span_limit: Count = 10
    """Longest span of ``spans``, in words; the lengths of ``ltg_spans`` are below it."""
    width: Count = 96
    """Columns of the table, and width of all layers, of the matched models."""
    layers: Count = 2
    """Layers of each of them."""
    heads: Count = 4
    """Heads of the attention model."""
    kernel_size: Count = 3
    """Positions that one convolution sees."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Of the matched models; others have theirs in their configurations."""
    training: TrainSettings = TrainSettings(steps=400, learning_rate=2e-2)

    @model_validator(mode="after")
    def _no_contradiction(self) -> PretrainingConfig:
        if self.masked_part + self.random_part > 1:
            raise ValueError(
                f"`masked_part` and `random_part` must be 1 together at most, but are "
                f"{self.masked_part} and {self.random_part}"
            )
        if self.late_length is not None and self.late_length <= self.length:
            raise ValueError(
                f"`late_length` must be above `length` ({self.length}), but is {self.late_length}"
            )
        symbols = self.training.batch_size * self.length
        if self.late_length is not None and self.late_length > symbols:
            raise ValueError(
                f"`late_length` must be at most the {symbols:,} symbols of a batch, `batch_size` "
                f"times `length`, but is {self.late_length:,}: raise `batch_size` or lower "
                "`late_length`"
            )
        if self.masking == "ltg_spans" and self.most_masked is not None:
            raise ValueError("`most_masked` must be left out where `masking` is 'ltg_spans'")
        return self
