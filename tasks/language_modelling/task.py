"""Language modelling as a task: text read, models built, trained and evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from embshare.models.matched import Architecture, MatchedConfig, MatchedLanguageModel
from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.language_modelling.corpus import SPLITS, Corpus, Split, load_corpus
from embshare.tasks.language_modelling.perplexity import Perplexity, nats_per_row
from embshare.tasks.language_modelling.vocabulary import (
    SubwordVocabulary,
    Vocabulary,
    WordVocabulary,
)
from embshare.tasks.language_modelling.windows import Windows
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Metric, OnStep, Training

__all__ = ["LanguageModelling", "PreparedLanguageModelling", "evaluate_perplexity"]

LOGITS: Final = 2**23
"""Most logits that are evaluated at once: larger blocks of memory are new pages every time, which
cost more than the arithmetic."""


@final
@dataclass(frozen=True)
class LanguageModelling:
    """The task before its text is read."""

    config: LanguageModellingConfig = field(default_factory=LanguageModellingConfig)

    def prepare(self) -> PreparedLanguageModelling:
        """Read the text, learn the vocabulary and encode all splits.

        Raises:
            CorpusError: the text cannot be read, or gives no such vocabulary.
            MatchedConfigError: no model has these sizes.
        """
        corpus = load_corpus(self.config.data)
        vocabulary = _learn(corpus, self.config)
        prepared = PreparedLanguageModelling(self.config, corpus, vocabulary)
        for architecture in ("lstm", "conv", "attention"):
            prepared.model_config(architecture)
        _ = prepared.symbols
        return prepared


@final
@dataclass(frozen=True)
class PreparedLanguageModelling:
    """The task with its text at hand."""

    config: LanguageModellingConfig
    corpus: Corpus
    vocabulary: Vocabulary

    @property
    def metric(self) -> Metric:
        """Perplexity of the test split."""
        return Metric(name="perplexity", label="test perplexity", better="lower")

    @property
    def steps(self) -> int:
        """Training steps that one model is to have."""
        return self.config.training.steps

    @cached_property
    def symbols(self) -> Mapping[Split, Tensor]:
        """Each split as symbols, ``[N]`` of int32; encoded once, for all models."""
        return {split: self.vocabulary.encode(self.corpus.split(split)) for split in SPLITS}

    def describe(self) -> Mapping[str, object]:
        """Source, fingerprint, and sizes of vocabulary and splits."""
        return {
            "text": self.corpus.name,
            "fingerprint": self.corpus.fingerprint(),
            "vocabulary": len(self.vocabulary),
            "symbols": {split: len(found) for split, found in self.symbols.items()},
            "bytes": {split: len(self.corpus.split(split).encode()) for split in SPLITS},
        }

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

    def build(self, architecture: Architecture, seed: int) -> nn.Module:
        """A new dense model, the same for the same seed; torch's random state stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return MatchedLanguageModel(self.model_config(architecture))

    def train(
        self, model: nn.Module, *, steps: int, seed: int, folder: Path, on_step: OnStep
    ) -> Training:
        """Train on the training split."""
        from embshare.tasks.training import train

        rows = self.windows("train", stride=self.config.length)
        settings = self.config.training.model_copy(update={"steps": steps})
        return train(model, rows, settings, seed=seed, folder=folder, on_step=on_step)

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Perplexity of the test split, and of the validation split as ``valid_...``."""
        test, valid = (self.perplexity(model, split, folder=folder) for split in ("test", "valid"))
        beside = {f"valid_{name}": value for name, value in valid.metrics().items()}
        return {**test.metrics(), **beside}

    def perplexity(self, model: nn.Module, split: Split, *, folder: Path) -> Perplexity:
        """How well a model predicts all of a split."""
        rows = self.windows(split, stride=self.config.evaluation_stride)
        text = self.corpus.split(split) if self.vocabulary.lossless else None
        fitting = max(1, LOGITS // (len(self.vocabulary) * (self.config.length + 1)))
        training = self.config.training
        settings = training.model_copy(
            update={"eval_batch_size": min(fitting, training.eval_batch_size)}
        )
        return evaluate_perplexity(model, rows, settings, text=text, folder=folder)

    def windows(self, split: Split, *, stride: int) -> Windows:
        """A split as rows for a model."""
        return Windows(
            self.symbols[split],
            start=self.vocabulary.start,
            length=self.config.length,
            stride=stride,
        )


def _learn(corpus: Corpus, config: LanguageModellingConfig) -> Vocabulary:
    if config.level == "word":
        return WordVocabulary.learn(corpus.train, config.vocabulary_size)
    assert config.vocabulary_size is not None, "`LanguageModellingConfig` checks this"
    return SubwordVocabulary.learn(corpus.train, config.vocabulary_size)


def evaluate_perplexity(
    model: nn.Module,
    rows: Windows,
    settings: TrainSettings,
    *,
    text: str | None,
    folder: Path,
) -> Perplexity:
    """Predict every symbol of some windows once.

    Args:
        model: Takes ``input_ids`` and ``labels`` ``[B, T]``, returns ``loss`` and ``logits``.
        rows: The split.
        settings: For the batch size.
        text: What the symbols stand for, where they lose nothing of it.
        folder: For whatever the ``Trainer`` writes.
    """
    from embshare.tasks.training import evaluate

    def totals(kept: Any) -> Mapping[str, float]:
        nats, symbols = kept.sum(axis=0).tolist()
        return {"nats": nats, "symbols": symbols}

    found = evaluate(model, rows, settings, folder=folder, reduce=nats_per_row, summarise=totals)
    size = None if text is None else len(text.encode())
    return Perplexity(nats=found["nats"], symbols=round(found["symbols"]), bytes=size)
