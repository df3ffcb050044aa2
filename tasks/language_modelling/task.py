"""Language modelling as a task: read text, build, train and evaluate models."""

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
from embshare.tasks.language_modelling.data import Windows
from embshare.tasks.language_modelling.metrics import Perplexity, nats_per_row
from embshare.tasks.language_modelling.processor import (
    LanguageModellingProcessor,
    learn_processor,
    load_processor,
)
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Feed, Metric
from embshare.tasks.text.corpus import Corpus, Split, load_corpus
from embshare.tasks.text.tokenizer import TextTokenizer

__all__ = ["LanguageModelling", "PreparedLanguageModelling", "evaluate_perplexity"]

PROMPT: Final = 10  # words of a sample that are given
LOGITS: Final = 2**23
"""Maximum number of logits to evaluate at once: the allocator maps larger blocks anew each time,
which costs more than the arithmetic."""


@final
@dataclass(frozen=True)
class LanguageModelling:
    """The task, before its text is read."""

    config: LanguageModellingConfig = field(default_factory=LanguageModellingConfig)

    def prepare(
        self, processor: LanguageModellingProcessor | None = None, *, train: bool = False
    ) -> PreparedLanguageModelling:
        """Read the text, learn the vocabulary if none is given, and encode the text.

        To evaluate a trained model, only the test set is needed, and the validation set if there is
        one.

        Raises:
            DataError: a file is missing, empty, or not UTF-8; with file and line.
            VocabularySizeError: no vocabulary of this size can be learned.
            TokenizerError: the tokenizer of the settings cannot be loaded.
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
        """Training settings."""
        return self.config.training

    @property
    def tokenizer(self) -> TextTokenizer:
        """Tokenizer of the processor."""
        return self.processor.tokenizer

    @cached_property
    def tokens(self) -> Mapping[Split, Tensor]:
        """Tokens of each split, ``[N]`` of int32; encoded once for all models."""
        corpus = self.corpus
        return {split: self.tokenizer.encode_corpus(corpus.split(split)) for split in corpus.splits}

    def describe(self) -> Mapping[str, object]:
        """Describe source, fingerprint, and sizes of vocabulary and splits.

        With an unknown token also ``unknown``, the fraction of unknown tokens, those that the
        text itself marks so included.
        """
        corpus, unknown = self.corpus, self.tokenizer.unknown
        found: dict[str, object] = {
            "text": self.corpus.name,
            "fingerprint": self.corpus.fingerprint(),
            "vocabulary": len(self.tokenizer),
            "tokens": {split: len(found) for split, found in self.tokens.items()},
            "bytes": {split: len(corpus.split(split).encode()) for split in corpus.splits},
        }
        if unknown is not None:
            found["unknown"] = {
                split: float((tokens == unknown).double().mean())
                for split, tokens in self.tokens.items()
            }
        return found

    def feed(self) -> Feed:
        """Training set in windows that do not overlap."""
        return Feed(rows=self.windows("train", stride=self.config.length), next_token=True)

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Compute perplexity on the test set, and as ``valid_...`` on the validation set, if there
        is one."""
        metrics = self.perplexity(model, "test", folder=folder).metrics()
        if "valid" in self.corpus.splits:
            valid = self.perplexity(model, "valid", folder=folder).metrics()
            metrics |= {f"valid_{name}": value for name, value in valid.items()}
        self._write_samples(model, folder)
        return metrics

    def _write_samples(self, model: nn.Module, folder: Path) -> None:
        """Write continuations of the beginning of some lines of the test set."""
        lines = [line for line in self.corpus.test.split("\n") if len(line.split()) >= 2 * PROMPT]
        texts = [" ".join(line.split()[: 2 * PROMPT]) for line in lines[:: 1 + len(lines) // 5]]
        given = [" ".join(text.split()[:PROMPT]) for text in texts]
        found = self.processor.predict(model, given)
        samples = [
            {"prompt": begin, "reference": text[len(begin) :], "prediction": line[len(begin) :]}
            for begin, text, line in zip(given, texts, found, strict=True)
        ]
        content = json.dumps(samples, ensure_ascii=False, indent=1)
        (folder / "samples.json").write_text(content, encoding="utf-8")

    def perplexity(self, model: nn.Module, split: Split, *, folder: Path) -> Perplexity:
        """Compute the perplexity of a model on a split, whole unless the settings limit it."""
        limit = self.config.eval_limit
        rows = self.windows(split, stride=self.config.evaluation_stride, most=limit)
        text = self.corpus.split(split) if self.tokenizer.unknown is None else None
        if text is not None and limit is not None:
            # Exact but for a character that the limit cuts, of which it lacks a byte or two.
            begin = self.tokenizer.decode(rows.stream[1:].tolist()).rstrip("\ufffd")
            text = begin if text.startswith(begin) else None
        fitting = max(1, LOGITS // (len(self.tokenizer) * (self.config.length + 1)))
        training = self.config.training
        settings = training.model_copy(
            update={"eval_batch_size": min(fitting, training.eval_batch_size)}
        )
        return evaluate_perplexity(model, rows, settings, text=text, folder=folder)

    def windows(self, split: Split, *, stride: int, most: int | None = None) -> Windows:
        """Cut a split into windows; with ``most`` into its first ones."""
        tokens, length = self.tokens[split], self.config.length
        return Windows(
            tokens if most is None else tokens[: length + (most - 1) * stride],
            start=self.processor.start,
            length=length,
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
    """Compute the perplexity of a model, predicting every token once.

    Args:
        model: model that takes ``input_ids`` and ``labels`` ``[B, T]`` and returns ``loss`` and
            ``logits``.
        rows: windows of a split.
        settings: source of the batch size.
        text: text of the split, if the tokens are lossless.
        folder: folder of the ``Trainer``.
    """
    from embshare.tasks.training import evaluate

    def totals(kept: Any) -> Mapping[str, float]:
        nats, tokens = kept.sum(axis=0).tolist()
        return {"nats": nats, "tokens": tokens}

    found = evaluate(model, rows, settings, folder=folder, reduce=nats_per_row, summarise=totals)
    size = None if text is None else len(text.encode())
    return Perplexity(nats=found["nats"], tokens=round(found["tokens"]), bytes=size)
