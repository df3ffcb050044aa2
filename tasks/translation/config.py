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
    """Number of optimizer updates."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    """Peak learning rate of the embedding table and of 1-D parameters. The default suits a few
    hundred small steps; for many thousands take a third or a tenth of it."""
    eval_batch_size: Annotated[int, Field(ge=1)] = 64
    """Batch size in evaluation (sentences)."""
    betas: tuple[
        Annotated[float, Field(ge=0, lt=1)],
        Annotated[float, Field(ge=0, lt=1)],
    ] = (0.9, 0.98)
    """Adam betas (beta1, beta2)."""


class TranslationConfig(TaskConfig):
    """Sentences, tokens, the size of the matched models, and how they translate.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar = frozenset(
        {
            *("data", "source_lang", "target_lang", "evaluate_on", "empty_lines"),
            *("beam", "length_penalty", "bleu_tokenizer", "lowercase", "training", "eval_limit"),
        }
    )

    data: Path | None = None
    """Folder of aligned files as plain files, Multi30k or IWSLT have them; ``hub:NAME`` or
    ``hub:NAME:CONFIG`` is a data set that datasets can load, ``sacrebleu:NAME`` a test set alone;
    ``None`` is phrases from the CLDR, rendered by Babel."""
    source_lang: Annotated[str, Field(min_length=1)] = "en"
    """Source language, as files name it: the ``de`` of ``train.de``."""
    target_lang: Annotated[str, Field(min_length=1)] = "de"
    """Target language."""
    evaluate_on: Annotated[tuple[str, ...], Field(min_length=1)] = ("test",)
    """Splits that are translated and scored: ``test``, ``valid``, another that the data have, or
    ``sacrebleu:NAME``. The first has the plain names of metrics."""
    train_pairs: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of training pairs, taken from the beginning of the training set, or of phrases
    from the CLDR."""
    empty_lines: Literal["error", "skip"] = "error"
    """Treatment of an empty line in the training set: an error, or skip the pair."""
    subwords: Literal["joint", "separate"] = "joint"
    """Vocabulary: joint for both languages, with one embedding table, or separate."""
    vocabulary_size: Annotated[int, Field(ge=1)] = 2_100
    """Maximum size of each subword vocabulary (tokens), learned from the training set."""
    tokenizer: str | None = None
    """Path or name of a pretrained tokenizer of transformers, in place of learned subwords: for
    models that come with one."""
    max_length: Annotated[int, Field(ge=2)] = 100
    """Maximum sentence length (tokens), with the end token; training pairs with a longer sentence
    are left out."""
    width: Annotated[int, Field(ge=1)] = 64
    """Width of the embedding table and of all layers."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Number of encoder layers, and of decoder layers."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Number of heads of the attention model, and of cross-attention in all models."""
    kernel_size: Annotated[int, Field(ge=1)] = 3
    """Kernel size of the convolutions, in positions."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout of embeddings and of layers' outputs."""
    batch_tokens: Annotated[int, Field(ge=1)] = 200
    """Batch size per device (tokens of the longer language, with padding). The default is for the
    short phrases from the CLDR; sentences want a thousand or more."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Label smoothing of the training loss."""
    beam: Annotated[int, Field(ge=1)] = 5
    """Beam size; 1 is greedy decoding."""
    length_penalty: Annotated[float, Field(ge=0)] = 1.0
    """Length penalty: exponent of the length by which a hypothesis's log-probability is divided."""
    bleu_tokenizer: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """Tokenizer of sacreBLEU; ``none`` for text that is tokenized already."""
    lowercase: bool = False
    """Score case-insensitively."""
    training: TranslationTraining = TranslationTraining()

    @model_validator(mode="after")
    def _no_contradiction(self) -> TranslationConfig:
        if self.source_lang == self.target_lang:
            raise ValueError(
                f"`source_lang` and `target_lang` must differ, but are both {self.source_lang!r}"
            )
        if self.batch_tokens < self.max_length:
            raise ValueError(
                f"`batch_tokens` must be at least `max_length` ({self.max_length}), or a "
                f"sentence would fit into no batch, but is {self.batch_tokens}"
            )
        if len(set(self.evaluate_on)) < len(self.evaluate_on) or "train" in self.evaluate_on:
            raise ValueError(
                "`evaluate_on` must name each split once, and not the training set, but is "
                f"{', '.join(self.evaluate_on)}"
            )
        return self
