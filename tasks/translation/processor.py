"""Tokenizers, model sizes and decoding: what a translation model needs beside its weights."""

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
from embshare.tasks.translation.subwords import Subwords
from embshare.tasks.translation.translating import Translator
from embshare.tasks.translation.trial import try_pairs

__all__ = ["TranslationProcessor", "learn_processor", "load_processor"]


@final
@dataclass(frozen=True)
class TranslationProcessor:
    """From sentences to tokens, and from settings to models."""

    config: TranslationConfig
    subwords: Subwords
    longest: tuple[LongSentence, ...] = ()
    """Longest sentences of the data, if there are any: what a model has to read."""

    def save(self, folder: Path) -> None:
        """Write the tokenizers."""
        self.subwords.save(folder)

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """Configuration of one architecture; all have the same tables, head, width and budget."""
        config, subwords = self.config, self.subwords
        # A tokenizer of transformers may have no start token; translations never have padding.
        learned = config.tokenizer is None
        start = subwords.target.special_ids["bos_token_id"] if learned else subwords.pad
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
        """Build an encoder-decoder: matched, or one that ``AutoModelForSeq2SeqLM`` reads.

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
        return MatchedSeq2Seq(
            self.model_config(architecture),
            source_vocab_size=None if subwords.joint else subwords.sizes[0],
        )

    def translator(self, config: TranslationConfig) -> Translator:
        """Decoding with some settings, which need not be those of the training."""
        return Translator(
            subwords=self.subwords,
            start=self.model_config("attention").bos_token_id,
            beam=config.beam,
            length_penalty=config.length_penalty,
            batch_size=config.training.eval_batch_size,
        )

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Check that a model has positions for the longest sentences of the data.

        Raises:
            SentenceTooLongError: it has too few.
        """
        positions = Positions.of(model)
        for sentence in self.longest:
            sentence.check(positions)

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """Yield the translation of each line; that of an empty line is empty.

        Raises:
            SentenceTooLongError: a line has more tokens than the model has positions.
        """
        return self.translator(self.config).stream(model, inputs)


def learn_processor(config: TranslationConfig, train: Pairs) -> TranslationProcessor:
    """Learn the vocabularies that the settings ask for, from the training set.

    Raises:
        VocabularySizeError: there is no vocabulary of this size.
        TokenizerError: the tokenizer that the settings name cannot be used.
    """
    if config.tokenizer is not None:
        return TranslationProcessor(config, Subwords.pretrained(config.tokenizer))
    learned = Subwords.learn(
        train.source,
        train.target,
        size=config.vocabulary_size,
        joint=config.subwords == "joint",
    )
    return TranslationProcessor(config, learned)


def load_processor(config: TranslationConfig, folder: Path) -> TranslationProcessor:
    """Read back what `TranslationProcessor.save` wrote.

    Raises:
        TokenizerError: a file is missing or no tokenizer.
    """
    if config.tokenizer is not None:
        return TranslationProcessor(config, Subwords.pretrained(str(folder)))
    joint = config.subwords == "joint"
    return TranslationProcessor(config, Subwords.load(folder, joint=joint))
