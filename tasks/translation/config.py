"""Settings of the translation task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from embshare.tasks.settings import TaskConfig, TrainSettings

__all__ = ["TranslationConfig", "TranslationTraining"]


class TranslationTraining(TrainSettings):
    """`TrainSettings` with the defaults that suit the phrases from the CLDR.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    steps: Annotated[int, Field(ge=1)] = 450
    """Updates of the parameters."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    """Of the table and of vectors, the highest, at the end of the warm-up. The default suits some
    hundred small steps; for many thousands take a third or a tenth of it."""
    eval_batch_size: Annotated[int, Field(ge=1)] = 64
    """Sentences that are translated at once."""
    betas: tuple[
        Annotated[float, Field(ge=0, lt=1)],
        Annotated[float, Field(ge=0, lt=1)],
    ] = (0.9, 0.98)
    """Of AdamW's two running means."""


class TranslationConfig(TaskConfig):
    """Sentences, symbols, the size of the matched models, and how they translate.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar = frozenset(
        {
            *("data", "source_lang", "target_lang", "evaluate_on", "empty_lines"),
            *("beam", "length_penalty", "bleu_tokenizer", "lowercase", "training"),
        }
    )

    data: Path | None = None
    """A folder of aligned files as plain files, Multi30k or IWSLT have them; ``hub:NAME`` or
    ``hub:NAME:CONFIG`` is a set that datasets can load, ``sacrebleu:NAME`` a test set alone;
    ``None`` is phrases from the CLDR, rendered by Babel."""
    source_lang: Annotated[str, Field(min_length=1)] = "en"
    """Language that is translated, as files name it: the ``de`` of ``train.de``."""
    target_lang: Annotated[str, Field(min_length=1)] = "de"
    """Language that is translated into."""
    evaluate_on: Annotated[tuple[str, ...], Field(min_length=1)] = ("test",)
    """Splits that are translated and scored, the first by plain names of metrics: ``test``,
    ``valid``, another that the data have, or ``sacrebleu:NAME``."""
    train_pairs: Annotated[int, Field(ge=1)] | None = None
    """The first so many pairs of the training side alone, or so many phrases from the CLDR."""
    empty_lines: Literal["error", "skip"] = "error"
    """What an empty line in the training side is: an error, or a pair to leave out."""
    subwords: Literal["joint", "separate"] = "joint"
    """One vocabulary and table for both languages, or one for each."""
    vocabulary_size: Annotated[int, Field(ge=1)] = 2_100
    """Subwords of each vocabulary, at most; learned from the training side alone."""
    tokenizer: str | None = None
    """A tokenizer of transformers, by folder or name, in place of subwords that are learned: for
    models that come with one."""
    max_length: Annotated[int, Field(ge=2)] = 100
    """Symbols of a sentence, with its end; training pairs with a longer side are left out."""
    width: Annotated[int, Field(ge=1)] = 64
    """Columns of the table, and width of all layers."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Layers of the encoder, and of the decoder."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Heads of the attention model, and of attention over the source in all models."""
    kernel_size: Annotated[int, Field(ge=1)] = 3
    """Positions that one convolution sees."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Part of the embeddings and of the layers' outputs that is zeroed in training."""
    batch_symbols: Annotated[int, Field(ge=1)] = 200
    """Most symbols of one side of a batch, with padding, on each device. The default is for the
    short phrases from the CLDR; sentences want a thousand or more."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Part of the probability that the training loss spreads over all symbols."""
    beam: Annotated[int, Field(ge=1)] = 5
    """Hypotheses that are followed for each sentence; 1 takes the likeliest symbol each time."""
    length_penalty: Annotated[float, Field(ge=0)] = 1.0
    """The power of a hypothesis's length by which its log-probability is divided."""
    bleu_tokenizer: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """How sacreBLEU splits lines into words; ``none`` for text that is tokenised already."""
    lowercase: bool = False
    """Score without regard to case."""
    training: TranslationTraining = TranslationTraining()

    @model_validator(mode="after")
    def _no_contradiction(self) -> TranslationConfig:
        if self.source_lang == self.target_lang:
            raise ValueError(
                f"`source_lang` and `target_lang` must differ, but are both {self.source_lang!r}"
            )
        if self.batch_symbols < self.max_length:
            raise ValueError(
                f"`batch_symbols` must be at least `max_length` ({self.max_length}), or a "
                f"sentence would fit into no batch, but is {self.batch_symbols}"
            )
        if len(set(self.evaluate_on)) < len(self.evaluate_on) or "train" in self.evaluate_on:
            raise ValueError(
                "`evaluate_on` must name each split once, and not the training side, but is "
                f"{', '.join(self.evaluate_on)}"
            )
        return self
