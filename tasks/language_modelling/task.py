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
from embshare.tasks.language_modelling.corpus import Corpus, Split, load_corpus
from embshare.tasks.language_modelling.perplexity import Perplexity, nats_per_row
from embshare.tasks.language_modelling.processor import (
    LanguageModellingProcessor,
    learn_processor,
    load_processor,
)
from embshare.tasks.language_modelling.vocabulary import Vocabulary
from embshare.tasks.language_modelling.windows import Windows
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Feed, Metric

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
        """Read the text, learn the vocabulary if none is given, and encode what was read.

        With a vocabulary, and not to train, that is the test split, and the validation split where
        there is one.

        Raises:
            CorpusError: the text cannot be read, or gives no such vocabulary.
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
        _ = prepared.symbols
        return prepared

    def load_processor(self, folder: Path) -> LanguageModellingProcessor:
        """The vocabulary of a model that is there already.

        Raises:
            VocabularyFileError: it cannot be read.
        """
        return load_processor(self.config, folder)


@final
@dataclass(frozen=True)
class PreparedLanguageModelling:
    """The task with its text at hand."""

    config: LanguageModellingConfig
    corpus: Corpus
    processor: LanguageModellingProcessor

    @property
    def metric(self) -> Metric:
        """Perplexity of the test split."""
        return Metric(name="perplexity", label="test perplexity", better="lower")

    @property
    def training(self) -> TrainSettings:
        """How long and how fast one model is trained."""
        return self.config.training

    @property
    def vocabulary(self) -> Vocabulary:
        """From text to symbols."""
        return self.processor.vocabulary

    @cached_property
    def symbols(self) -> Mapping[Split, Tensor]:
        """Each split as symbols, ``[N]`` of int32; encoded once, for all models."""
        corpus = self.corpus
        return {split: self.vocabulary.encode(corpus.split(split)) for split in corpus.splits}

    def describe(self) -> Mapping[str, object]:
        """Source, fingerprint, and sizes of vocabulary and splits.

        Of words also ``unknown``: which part of the symbols are so, from 0 to 1, with those that
        the text itself has so.
        """
        corpus, unknown = self.corpus, self.vocabulary.unknown
        found: dict[str, object] = {
            "text": self.corpus.name,
            "fingerprint": self.corpus.fingerprint(),
            "vocabulary": len(self.vocabulary),
            "symbols": {split: len(found) for split, found in self.symbols.items()},
            "bytes": {split: len(corpus.split(split).encode()) for split in corpus.splits},
        }
        if unknown is not None:
            found["unknown"] = {
                split: float((symbols == unknown).double().mean())
                for split, symbols in self.symbols.items()
            }
        return found

    def feed(self) -> Feed:
        """The training split in windows, end to end."""
        return Feed(rows=self.windows("train", stride=self.config.length), next_symbol=True)

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Perplexity of the test split, and as ``valid_...`` of the validation split, if there is
        one."""
        metrics = self.perplexity(model, "test", folder=folder).metrics()
        if "valid" in self.corpus.splits:
            valid = self.perplexity(model, "valid", folder=folder).metrics()
            metrics |= {f"valid_{name}": value for name, value in valid.items()}
        self._write_samples(model, folder)
        return metrics

    def _write_samples(self, model: nn.Module, folder: Path) -> None:
        """What the model holds to follow the beginning of some lines of the test split."""
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
