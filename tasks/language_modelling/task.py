"""Language modelling as a task: text read, models built, trained and evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

from torch import Tensor, nn

from embshare.models.matched import ARCHITECTURES
from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.language_modelling.perplexity import Perplexity, nats_per_row
from embshare.tasks.language_modelling.processor import (
    LanguageModellingProcessor,
    learn_processor,
    load_processor,
)
from embshare.tasks.language_modelling.windows import Windows
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Feed, Metric
from embshare.tasks.text.corpus import Corpus, Split, load_corpus
from embshare.tasks.text.tokenizer import TextTokenizer

__all__ = ["LanguageModelling", "PreparedLanguageModelling", "evaluate_perplexity"]

SHOWN: Final = 10  # words of a sample that the model is given
LOGITS: Final = 2**23
"""Most logits that are evaluated at once: larger blocks of memory are new pages every time, which
cost more than the arithmetic."""


@final
@dataclass(frozen=True)
class LanguageModelling:
    """The task before its text is read."""

    config: LanguageModellingConfig = field(default_factory=LanguageModellingConfig)

    def prepare(
        self, processor: LanguageModellingProcessor | None = None, *, train: bool = False
    ) -> PreparedLanguageModelling:
        """Read the text, learn a vocabulary unless one is given, and encode the text.

        With a vocabulary and without training, that is the test set, and the validation set where
        there is one.

        Raises:
            DataError: the text cannot be read.
            VocabularySizeError: there is no vocabulary of this size.
            TokenizerError: the tokenizer that the settings name cannot be loaded.
            MatchedConfigError: no model has these sizes.
        """
        corpus = load_corpus(self.config.data, train=train or processor is None)
        if processor is None:
            processor = learn_processor(self.config, corpus.train)
        else:
            processor = replace(processor, config=self.config)
        prepared = PreparedLanguageModelling(self.config, corpus, processor)
        for architecture in ARCHITECTURES:
            processor.model_config(architecture)
        _ = prepared.tokens
        return prepared

    def load_processor(self, folder: Path) -> LanguageModellingProcessor:
        """Load the tokenizer of a trained model.

        Raises:
            TokenizerError: it cannot be read.
        """
        return load_processor(self.config, folder)


@final
@dataclass(frozen=True)
class PreparedLanguageModelling:
    """The task with its text."""

    config: LanguageModellingConfig
    corpus: Corpus
    processor: LanguageModellingProcessor

    @property
    def metric(self) -> Metric:
        """Perplexity of the test set."""
        return Metric(name="perplexity", label="test perplexity", better="lower")

    @property
    def training(self) -> TrainSettings:
        """Training settings of one model."""
        return self.config.training

    @property
    def tokenizer(self) -> TextTokenizer:
        """From text to tokens."""
        return self.processor.tokenizer

    @cached_property
    def tokens(self) -> Mapping[Split, Tensor]:
        """Tokens of each split, ``[N]`` of int32; encoded once for all models."""
        corpus = self.corpus
        return {split: self.tokenizer.encode_text(corpus.split(split)) for split in corpus.splits}

    def describe(self) -> Mapping[str, object]:
        """Source, fingerprint, and sizes of vocabulary and splits; ``symbols`` are tokens.

        With an unknown token also ``unknown``: the fraction of tokens that are unknown, from 0 to
        1, those that the text itself spells as unknown included.
        """
        corpus, unknown = self.corpus, self.tokenizer.unknown
        found: dict[str, object] = {
            "text": self.corpus.name,
            "fingerprint": self.corpus.fingerprint(),
            "vocabulary": len(self.tokenizer),
            "symbols": {split: len(found) for split, found in self.tokens.items()},
            "bytes": {split: len(corpus.split(split).encode()) for split in corpus.splits},
        }
        if unknown is not None:
            found["unknown"] = {
                split: float((tokens == unknown).double().mean())
                for split, tokens in self.tokens.items()
            }
        return found

    def feed(self) -> Feed:
        """Contiguous windows of the training set."""
        return Feed(rows=self.windows("train", stride=self.config.length), next_symbol=True)

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Perplexity of the test set; as ``valid_...`` of the validation set if there is one."""
        metrics = self.perplexity(model, "test", folder=folder).metrics()
        if "valid" in self.corpus.splits:
            valid = self.perplexity(model, "valid", folder=folder).metrics()
            metrics |= {f"valid_{name}": value for name, value in valid.items()}
        self._write_samples(model, folder)
        return metrics

    def _write_samples(self, model: nn.Module, folder: Path) -> None:
        """Write greedy continuations of the beginnings of some lines of the test set."""
        lines = [line for line in self.corpus.test.split("\n") if len(line.split()) >= 2 * SHOWN]
        texts = [" ".join(line.split()[: 2 * SHOWN]) for line in lines[:: 1 + len(lines) // 5]]
        given = [" ".join(text.split()[:SHOWN]) for text in texts]
        found = self.processor.predict(model, given)
        samples = [
            {"given": begin, "goes on": text[len(begin) :], "prediction": line[len(begin) :]}
            for begin, text, line in zip(given, texts, found, strict=True)
        ]
        content = json.dumps(samples, ensure_ascii=False, indent=1)
        (folder / "samples.json").write_text(content, encoding="utf-8")

    def perplexity(self, model: nn.Module, split: Split, *, folder: Path) -> Perplexity:
        """Perplexity of a split."""
        rows = self.windows(split, stride=self.config.evaluation_stride)
        text = self.corpus.split(split) if self.tokenizer.unknown is None else None
        fitting = max(1, LOGITS // (len(self.tokenizer) * (self.config.length + 1)))
        training = self.config.training
        settings = training.model_copy(
            update={"eval_batch_size": min(fitting, training.eval_batch_size)}
        )
        return evaluate_perplexity(model, rows, settings, text=text, folder=folder)

    def windows(self, split: Split, *, stride: int) -> Windows:
        """Rows of a split for a model."""
        return Windows(
            self.tokens[split],
            start=self.processor.start,
            length=self.config.length,
            stride=stride,
        )


def evaluate_perplexity(
    model: nn.Module,
    rows: Windows,
    settings: TrainSettings,
    *,
    text: str | None,
    folder: Path,
) -> Perplexity:
    """Predict every token of some windows once.

    Args:
        model: takes ``input_ids`` and ``labels`` ``[B, T]``, returns ``loss`` and ``logits``.
        rows: windows of a split.
        settings: training settings, for the batch size.
        text: text of the tokens, where they lose nothing of it.
        folder: folder for what the ``Trainer`` writes.
    """
    from embshare.tasks.training import evaluate

    def totals(kept: Any) -> Mapping[str, float]:
        nats, tokens = kept.sum(axis=0).tolist()
        return {"nats": nats, "tokens": tokens}

    found = evaluate(model, rows, settings, folder=folder, reduce=nats_per_row, summarise=totals)
    size = None if text is None else len(text.encode())
    return Perplexity(nats=found["nats"], tokens=round(found["tokens"]), bytes=size)
