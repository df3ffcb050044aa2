"""Translation as a task: read sentences, build, train and evaluate models."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final, get_args

from torch import nn
from torch.utils.data import Sampler, Subset

from embshare.models.matched import ARCHITECTURES
from embshare.tasks.batching import TokenBatches
from embshare.tasks.errors import DataError
from embshare.tasks.task import Feed, Metric
from embshare.tasks.translation.config import TranslationConfig, TranslationTraining
from embshare.tasks.translation.data import (
    SACREBLEU,
    Collate,
    Corpus,
    PairRows,
    Pairs,
    load_corpus,
)
from embshare.tasks.translation.metrics import Score, Scorers, SmoothedLoss, nats_per_row
from embshare.tasks.translation.processor import (
    LongSentence,
    Side,
    TranslationProcessor,
    learn_processor,
    load_processor,
)

__all__ = ["PreparedTranslation", "Translation"]

SAMPLES: Final = 50  # sentences of each split in a report


@final
@dataclass(frozen=True)
class Translation:
    """The task, before its data are read."""

    config: TranslationConfig = field(default_factory=TranslationConfig)

    def prepare(
        self, processor: TranslationProcessor | None = None, *, train: bool = False
    ) -> PreparedTranslation:
        """Read the sentences, learn subwords if none are given, and encode the training set.

        Raises:
            DataError: data are missing or invalid; with file and line.
            VocabularySizeError: the vocabulary size is too small.
            TokenizerError: the tokenizer of the settings cannot be used.
            MatchedConfigError: no model has these sizes.
            MissingPackageError: sacrebleu, or a package that the data need, is not installed.
        """
        corpus = load_corpus(self.config, train=train or processor is None)
        if processor is None:
            processor = learn_processor(self.config, corpus.splits["train"])
        prepared = PreparedTranslation(self.config, corpus, processor)
        for architecture in ARCHITECTURES:
            processor.model_config(architecture)
        prepared.check()
        return prepared

    def load_processor(self, folder: Path) -> TranslationProcessor:
        """Load the subwords of a trained model.

        Raises:
            TokenizerError: they cannot be read.
        """
        return load_processor(self.config, folder)


@final
@dataclass(frozen=True)
class PreparedTranslation:
    """The task with its data."""

    config: TranslationConfig
    corpus: Corpus
    learned: TranslationProcessor
    """Processor without knowledge of these data."""

    @cached_property
    def processor(self) -> TranslationProcessor:
        """Processor that checks models against the longest sentences of these data."""
        return replace(self.learned, longest=tuple(self._longest()))

    def _longest(self) -> Iterator[LongSentence]:
        for split in self.corpus.splits:
            rows = self.rows if split == "train" else self.held_out[split]
            for side, (row, tokens) in zip(get_args(Side), rows.longest, strict=True):
                if side == "source" or split in ("train", "valid"):  # others have no loss
                    yield LongSentence(f"{split}, {side}", f"row {row:,}", side, tokens)

    @property
    def metric(self) -> Metric:
        """BLEU of the first split in `evaluate_on`."""
        return Metric(name="bleu", label=f"BLEU, {self.config.evaluate_on[0]}", better="higher")

    @property
    def training(self) -> TranslationTraining:
        """Training settings."""
        return self.config.training

    @property
    def scorers(self) -> Scorers:
        """BLEU and chrF with the tokenizer and case of the settings."""
        return Scorers(tokenizer=self.config.bleu_tokenizer, lowercase=self.config.lowercase)

    @cached_property
    def rows(self) -> PairRows:
        """Training set, encoded once for all models."""
        return self._encoded("train", longest=self.config.max_length)

    @cached_property
    def held_out(self) -> Mapping[str, PairRows]:
        """Other splits, with pairs of any length; encoded once for all models."""
        return {name: self._encoded(name) for name in self.corpus.splits if name != "train"}

    def _encoded(self, split: str, *, longest: int | None = None) -> PairRows:
        pairs, subwords = self.corpus.splits[split], self.learned.subwords
        return subwords.rows(pairs.source, pairs.target, longest=longest)

    def check(self) -> None:
        """Raise errors that would otherwise come after training.

        Raises:
            DataError: no training pair is short enough.
            MissingPackageError: sacrebleu is not installed.
        """
        _ = self.signatures
        if "train" in self.corpus.splits and not len(self.rows):
            raise DataError(
                self.corpus.splits["train"].origin,
                needs=f"hold pairs of at most {self.config.max_length} tokens",
                has="all of them are longer",
                hint="Raise `max_length`.",
            )

    @cached_property
    def signatures(self) -> Mapping[str, Mapping[str, str]]:
        """Signatures of both metrics on each split."""
        return {
            split: self.scorers.signatures(_references(self.corpus.splits[split]))
            for split in self.config.evaluate_on
        }

    def describe(self) -> Mapping[str, object]:
        """Describe sources, fingerprint, sizes, and the signatures of the metrics."""
        splits: dict[str, dict[str, object]] = {
            split: {"origin": pairs.origin, "pairs": len(pairs)}
            for split, pairs in self.corpus.splits.items()
        }
        if "train" in splits:
            source, target = self.rows.tokens
            splits["train"] |= {
                "empty_left_out": self.corpus.splits["train"].left_out,
                "too_long_left_out": self.rows.too_long,
                "source_tokens": source,
                "target_tokens": target,
            }
        return {
            "text": self.corpus.name,
            "languages": f"{self.config.source_lang}-{self.config.target_lang}",
            "fingerprint": self.corpus.fingerprint(),
            "vocabulary": list(self.processor.subwords.sizes),
            "splits": splits,
            "signatures": {split: dict(found) for split, found in self.signatures.items()},
        }

    def feed(self) -> Feed:
        """Training set in batches of pairs of similar length."""
        smoothing = self.config.label_smoothing
        return Feed(
            rows=self.rows,
            collate=self._collate,
            batches=self._batches,
            objective=SmoothedLoss(smoothing) if smoothing else None,
        )

    @property
    def _collate(self) -> Any:
        return Collate(self.processor.subwords.pad)

    def _batches(self, seed: int) -> Sampler[list[int]]:
        from accelerate import PartialState  # type: ignore[import-untyped]

        return TokenBatches(
            self.rows.lengths,
            tokens=self.config.batch_tokens,
            seed=seed,
            processes=PartialState().num_processes,
        )

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Compute ``bleu`` and ``chrf`` of each split, and the loss of the validation set.

        The metrics of splits after the first are prefixed with its name. The validation loss is
        without label smoothing. Writes all translations, ``samples.json``, and ``scores.json``
        with signatures.
        """
        metrics: dict[str, float] = {}
        samples: list[dict[str, str]] = []
        scores: dict[str, Score] = {}
        for index, split in enumerate(self.config.evaluate_on):
            pairs = self.corpus.splits[split].first(self.config.eval_limit)
            found = self._translate(model, pairs.source)
            prefix = "" if index == 0 else f"{_plain_name(split)}_"
            for name, score in self.scorers.score(found, _references(pairs)).items():
                scores[prefix + name] = score
            samples += _samples(split, pairs, found)
            name = f"{_plain_name(split)}.{self.config.target_lang}"
            (folder / name).write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
        metrics |= {name: score.value for name, score in scores.items()}
        if "valid" in self.corpus.splits:
            metrics |= self._validation(model, folder)
        _write(folder / "samples.json", samples)
        _write(folder / "scores.json", {name: vars(score) for name, score in scores.items()})
        return metrics

    def _translate(self, model: nn.Module, lines: Sequence[str]) -> list[str]:
        """Translate lines; each of several processes translates a part, and all get the whole."""
        from accelerate import PartialState
        from accelerate.utils import gather_object  # type: ignore[import-untyped]

        state, translator = PartialState(), self.processor.translator(self.config)
        if state.num_processes == 1:
            return translator.all(model, lines)
        first, count = state.process_index, state.num_processes
        parts = gather_object([translator.all(model, lines[first::count])])
        found = [""] * len(lines)
        for place, part in enumerate(parts):
            found[place::count] = part
        return found

    def _validation(self, model: nn.Module, folder: Path) -> dict[str, float]:
        """Mean nats per token of the validation set, each token counted once."""
        from embshare.tasks.training import evaluate

        rows = self.held_out["valid"]
        count = min(len(rows), self.config.eval_limit or len(rows))
        found = evaluate(
            model,
            Subset(rows, range(count)),
            self.training,
            folder=folder,
            reduce=nats_per_row,
            summarise=lambda kept: dict(zip(("nats", "tokens"), kept.sum(axis=0), strict=True)),
            collate=self._collate,
        )
        loss = found["nats"] / found["tokens"]
        return {"valid_loss": loss, "valid_perplexity": math.exp(min(loss, 700.0))}


def _references(pairs: Pairs) -> tuple[tuple[str, ...], ...]:
    return (pairs.target, *pairs.others)


def _plain_name(split: str) -> str:
    """Make a part of the name of a file or metric."""
    return re.sub(r"\W+", "_", split.removeprefix(SACREBLEU))


def _samples(split: str, pairs: Pairs, found: Sequence[str]) -> list[dict[str, str]]:
    rows = zip(pairs.source, pairs.target, found, strict=True)
    return [
        {"split": split, "source": source, "reference": reference, "prediction": prediction}
        for source, reference, prediction in list(rows)[:SAMPLES]
    ]


def _write(path: Path, content: object) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=1)
    path.write_text(f"{text}\n", encoding="utf-8")
