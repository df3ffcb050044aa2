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
    """Text, tokens, sequences, masking, and the size of the matched models.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar = frozenset(
        {
            *("data", "column", "documents", "held_out", "cache"),
            *(
                "max_train_tokens",
                "max_valid_tokens",
                "length",
                "mask_share",
                "training",
                "eval_limit",
            ),
        }
    )

    data: Path | None = None
    """Folder in the WikiText layout, or with any text files; ``hub:NAME`` or ``hub:NAME:CONFIG``, a
    data set of the hub as a stream (``hub:wikitext:wikitext-103-raw-v1``); ``None`` is the text
    that comes with Python."""
    column: str = "text"
    """Column of a data set of the hub that holds the text."""
    documents: Literal["title", "blank"] = "title"
    """Document boundaries beside the ends of files: WikiText's article titles, or blank lines
    too."""
    held_out: Annotated[int, Field(ge=2)] = 20
    """Hold out one in N pieces of the text for validation, where the text has no validation set."""
    max_train_tokens: Count | None = None
    """Maximum number of tokens of the training set, and in proportion of a validation set that is
    held out."""
    max_valid_tokens: Count | None = None
    """Maximum number of tokens of the validation set; ``None``, where the text has its own, reads
    all of it."""
    cache: Path | None = None
    """Folder in which tokenized texts are kept for other runs; ``None`` keeps them, on disk too, as
    long as the run lasts. A data set of the hub without a known revision is not kept."""
    tokenization: Literal["wordpiece", "bytes"] = "wordpiece"
    """Tokenizer to learn: WordPiece or byte-level BPE."""
    vocabulary_size: Count = 2_000
    """Vocabulary size of the learned tokenizer (tokens)."""
    lowercase: bool = True
    """Lowercase the text and strip accents, with WordPiece."""
    tokenizer: str | None = None
    """Path or name of a pretrained tokenizer of transformers, in place of a learned vocabulary: for
    models that come with one."""
    objective: Literal["masked", "replaced"] = "masked"
    """Training objective: masked language modelling; or, with ConvBERT alone, detection of tokens
    that a generator replaced, as in ELECTRA."""
    length: Annotated[int, Field(ge=4)] = 64
    """Sequence length (tokens), with the special tokens at both ends."""
    late_length: Annotated[int, Field(ge=4)] | None = None
    """Longer sequence length at the end of training, with a smaller batch: at most all tokens of a
    batch together."""
    late_from: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Fraction of the steps after which sequences have `late_length`."""
    short_rows: Share = 0.0
    """Fraction of sequences that are truncated at a random length and padded."""
    masking: Masking = "tokens"
    """Masking: single tokens, whole words, spans of words as in SpanBERT, or spans of tokens as in
    LTG-BERT and ELC-BERT."""
    mask_share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Masking ratio: fraction of the tokens that are predicted."""
    most_masked: Count | None = None
    """Maximum number of predicted tokens in a sequence; ``ltg_spans`` has no such limit."""
    mask_copies: Count | None = None
    """Number of fixed masks of each sequence, used in turn from epoch to epoch as if the text had
    been masked beforehand (static masking); ``None`` draws new ones in every epoch."""
    masked_part: Share = 0.8
    """Fraction of the predicted tokens that are replaced by the mask token."""
    random_part: Share = 0.1
    """Fraction of the predicted tokens that are replaced by a random token; the rest is
    unchanged."""
    span_stop: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Probability that a span ends after each word or token; ``None`` is the published one, 1/5 of
    SpanBERT or 1/3 of LTG-BERT."""
    span_limit: Count = 10
    """Maximum span length of ``spans``, in words; the lengths of ``ltg_spans`` are below it."""
    width: Count = 96
    """Width of the embedding table and of all layers of the matched models."""
    layers: Count = 2
    """Number of layers of the matched models."""
    heads: Count = 4
    """Number of attention heads of the attention model."""
    kernel_size: Count = 3
    """Kernel size of the convolutions, in positions."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout of the matched models; others have theirs in their configurations."""
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
        tokens = self.training.batch_size * self.length
        if self.late_length is not None and self.late_length > tokens:
            raise ValueError(
                f"`late_length` must be at most the {tokens:,} tokens of a batch, `batch_size` "
                f"times `length`, but is {self.late_length:,}: raise `batch_size` or lower "
                "`late_length`"
            )
        if self.masking == "ltg_spans" and self.most_masked is not None:
            raise ValueError("`most_masked` must be left out where `masking` is 'ltg_spans'")
        return self
