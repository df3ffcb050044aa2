"""Vocabulary and model sizes: what a trained language model needs beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import nn

from embshare.models.matched import Architecture, MatchedConfig, MatchedLanguageModel
from embshare.tasks.building import ModelNotForTaskError, build_model, is_matched
from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.language_modelling.continuing import continue_text
from embshare.tasks.language_modelling.contractions import split_as_corpus
from embshare.tasks.language_modelling.vocabulary import (
    SubwordVocabulary,
    TrainedVocabulary,
    Vocabulary,
    WordVocabulary,
)
from embshare.tasks.probing import read_a_row
from embshare.tasks.text.likelihood import Values, causal_log_likelihoods

__all__ = ["LanguageModellingProcessor", "learn_processor", "load_processor"]


@final
@dataclass(frozen=True)
class LanguageModellingProcessor:
    """From text to symbols, and from settings to models."""

    config: LanguageModellingConfig
    vocabulary: Vocabulary

    def save(self, folder: Path) -> None:
        """Write the vocabulary."""
        self.vocabulary.save(folder)

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """The model of one architecture; all have the same table, head, width and budget."""
        config, start = self.config, self.vocabulary.start
        return MatchedConfig(
            architecture=architecture,
            vocab_size=len(self.vocabulary),
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            kernel_size=config.kernel_size,
            dropout=config.dropout,
            pad_token_id=start,
            bos_token_id=start,
        )

    def build(self, model: str, seed: int) -> nn.Module:
        """A causal language model; of transformers, one that ``AutoModelForCausalLM`` reads.

        Raises:
            ModelNotForTaskError: there is no such model, its table is too small, or it has too few
                positions.
        """
        built = build_model(
            model,
            seed=seed,
            matched=lambda architecture: MatchedLanguageModel(self.model_config(architecture)),
            auto="AutoModelForCausalLM",
            vocab_size=len(self.vocabulary),
            symbols=dict.fromkeys(("bos_token_id", "eos_token_id"), self.vocabulary.start),
        )
        self.check_reads(model, built)
        return built

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Rows have a symbol more than ``length``, for which a model may have no position.

        Raises:
            ModelNotForTaskError: it has none.
        """
        if is_matched(name):
            return
        padding = getattr(getattr(model, "config", None), "pad_token_id", None)
        taken = {self.vocabulary.start, padding}  # some models give padding no position
        ordinary = (i for i in range(len(self.vocabulary)) if i not in taken)
        symbol = next(ordinary, self.vocabulary.start)
        row = torch.full((1, self.config.length + 1), symbol)
        try:
            read_a_row(name, model, {"input_ids": row})
        except ModelNotForTaskError as error:
            raise ModelNotForTaskError(
                model=name,
                finding=f"{error.finding}, the {self.config.length} of `length` and one before",
                way_out="Lower `length` to one less than the model has positions, or further.",
            ) from error

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """Each text as it is, with what the model holds to come next, up to the end of a line."""
        for text in inputs:
            yield continue_text(
                model, self.vocabulary, text, seen=self.config.length, most=self.config.length
            )

    def log_likelihoods(self, model: nn.Module, sentences: Sequence[str]) -> Values:
        """Compute the log-likelihood of each sentence; see `SentenceScorer`."""
        vocabulary = self.vocabulary
        if isinstance(vocabulary, WordVocabulary):
            sentences = split_as_corpus(sentences, vocabulary.ids)
        ids = [vocabulary.encode_part(sentence).tolist() for sentence in sentences]
        return causal_log_likelihoods(
            model, ids, start=vocabulary.start, vocabulary=len(vocabulary)
        )


def learn_processor(config: LanguageModellingConfig, text: str) -> LanguageModellingProcessor:
    """Learn the vocabulary that the settings ask for, from the training side.

    Raises:
        VocabularySizeError: the settings give no vocabulary.
        TokenizerError: the tokenizer that they name cannot be had.
    """
    if config.tokenizer is not None:
        return LanguageModellingProcessor(config, TrainedVocabulary.of(config.tokenizer))
    if config.level == "word":
        learned: Vocabulary = WordVocabulary.learn(text, config.vocabulary_size)
    else:
        assert config.vocabulary_size is not None, "`LanguageModellingConfig` checks this"
        learned = SubwordVocabulary.learn(text, config.vocabulary_size)
    return LanguageModellingProcessor(config, learned)


def load_processor(config: LanguageModellingConfig, folder: Path) -> LanguageModellingProcessor:
    """Read back what `LanguageModellingProcessor.save` wrote.

    Raises:
        VocabularyFileError: the file is missing or not a vocabulary.
    """
    if config.tokenizer is not None:
        return LanguageModellingProcessor(config, TrainedVocabulary.of(str(folder)))
    kind = WordVocabulary if config.level == "word" else SubwordVocabulary
    return LanguageModellingProcessor(config, kind.load(folder))
