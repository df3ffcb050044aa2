"""Subwords, model sizes and the way to translate: what a trained model needs beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import nn

from embshare.models.matched import Architecture, MatchedConfig, MatchedSeq2Seq
from embshare.tasks.building import build_model, is_matched
from embshare.tasks.translation.config import TranslationConfig
from embshare.tasks.translation.lengths import LongSentence, Positions
from embshare.tasks.translation.reading import Pairs
from embshare.tasks.translation.subwords import START, LearnedSubwords, Subwords, TrainedSubwords
from embshare.tasks.translation.translating import Translator
from embshare.tasks.translation.trial import try_pairs

__all__ = ["TranslationProcessor", "learn_processor", "load_processor"]


@final
@dataclass(frozen=True)
class TranslationProcessor:
    """From sentences to symbols, and from settings to models."""

    config: TranslationConfig
    subwords: Subwords
    longest: tuple[LongSentence, ...] = ()
    """Of the data at hand, where there are some: what a model has to read."""

    def save(self, folder: Path) -> None:
        """Write the subwords."""
        self.subwords.save(folder)

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """The model of one architecture; all have the same tables, head, width and budget."""
        config, subwords = self.config, self.subwords
        # A tokenizer of transformers may have no symbol for the start; padding never stands there.
        start = START if isinstance(subwords, LearnedSubwords) else subwords.pad
        return MatchedConfig(
            architecture=architecture,
            vocab_size=subwords.sizes[1],
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            kernel_size=config.kernel_size,
            dropout=config.dropout,
            pad_token_id=subwords.pad,
            bos_token_id=start,
        )

    def build(self, model: str, seed: int) -> nn.Module:
        """An encoder-decoder; of transformers, one that ``AutoModelForSeq2SeqLM`` reads.

        Raises:
            ModelNotForTaskError: there is no such model, its table is too small, or it gives no
                loss for a sentence and its translation.
            SentenceTooLongError: the data have one that it cannot read.
        """
        built = build_model(
            model,
            seed=seed,
            matched=self._matched,
            auto="AutoModelForSeq2SeqLM",
            vocab_size=max(self.subwords.sizes),
        )
        if not is_matched(model):
            try_pairs(model, built, self.subwords, smoothing=self.config.label_smoothing)
        self.check_reads(model, built)
        return built

    def _matched(self, architecture: Architecture) -> MatchedSeq2Seq:
        subwords = self.subwords
        two = isinstance(subwords, LearnedSubwords) and not subwords.joint
        return MatchedSeq2Seq(
            self.model_config(architecture),
            source_vocab_size=subwords.sizes[0] if two else None,
        )

    def translator(self, config: TranslationConfig) -> Translator:
        """How models translate with some settings, which need not be those of the training."""
        return Translator(
            subwords=self.subwords,
            start=self.model_config("attention").bos_token_id,
            beam=config.beam,
            length_penalty=config.length_penalty,
            batch_size=config.training.eval_batch_size,
        )

    def check_reads(self, name: str, model: nn.Module) -> None:
        """The data at hand have sentences of some length.

        Raises:
            SentenceTooLongError: the model has not as many positions.
        """
        positions = Positions.of(model)
        for sentence in self.longest:
            sentence.check(positions)

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """The translation of each line; of an empty one, an empty one.

        Raises:
            SentenceTooLongError: a line has more symbols than the model has positions.
        """
        return self.translator(self.config).stream(model, inputs)


def learn_processor(config: TranslationConfig, train: Pairs) -> TranslationProcessor:
    """Learn the subwords that the settings ask for, from the training side.

    Raises:
        SubwordSizeError: the settings give none.
        SubwordFileError: the tokenizer that they name cannot be had.
        SubwordSymbolsError: it has one symbol for padding and the end.
    """
    if config.tokenizer is not None:
        return TranslationProcessor(config, TrainedSubwords.of(config.tokenizer))
    learned = LearnedSubwords.learn(
        train.source,
        train.target,
        size=config.vocabulary_size,
        joint=config.subwords == "joint",
    )
    return TranslationProcessor(config, learned)


def load_processor(config: TranslationConfig, folder: Path) -> TranslationProcessor:
    """Read back what `TranslationProcessor.save` wrote.

    Raises:
        SubwordFileError: a file is missing or no tokenizer.
    """
    if config.tokenizer is not None:
        return TranslationProcessor(config, TrainedSubwords.of(str(folder)))
    joint = config.subwords == "joint"
    return TranslationProcessor(config, LearnedSubwords.load(folder, joint=joint))
