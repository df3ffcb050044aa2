"""Translation as a task: sentences read, models built, trained and scored."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import Sampler

from embshare.models.matched import ARCHITECTURES
from embshare.tasks.batching import SymbolBatches
from embshare.tasks.task import Feed, Metric
from embshare.tasks.translation.config import TranslationConfig, TranslationTraining
from embshare.tasks.translation.corpus import Corpus, load_corpus
from embshare.tasks.translation.errors import EmptySideError
from embshare.tasks.translation.lengths import LongSentence, Side
from embshare.tasks.translation.named import SACREBLEU
from embshare.tasks.translation.processor import (
    TranslationProcessor,
    learn_processor,
    load_processor,
)
from embshare.tasks.translation.reading import Pairs
from embshare.tasks.translation.rows import IGNORED, Collate, PairRows, SmoothedLoss
from embshare.tasks.translation.scoring import Score, Scorers

__all__ = ["PreparedTranslation", "Translation", "nats_per_row"]

SAMPLES: Final = 50  # sentences of each split that a report may show


@final
@dataclass(frozen=True)
class Translation:
    """The task before its sentences are read."""

    config: TranslationConfig = field(default_factory=TranslationConfig)

    def prepare(
        self, processor: TranslationProcessor | None = None, *, train: bool = False
    ) -> PreparedTranslation:
        """Read the sentences, learn vocabularies unless they are given, encode the training set.

        Raises:
            PairsError: the data cannot be read.
            VocabularySizeError: there is no vocabulary of this size.
            TokenizerError: the tokenizer that the settings name cannot be used.
            MatchedConfigError: no model has these sizes.
            MissingPackageError: sacrebleu, or what the data need, is not installed.
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
        """Load the tokenizers of a trained model.

        Raises:
            TokenizerError: they cannot be read.
        """
        return load_processor(self.config, folder)


@final
@dataclass(frozen=True)
class PreparedTranslation:
    """The task with its sentences."""

    config: TranslationConfig
    corpus: Corpus
    learned: TranslationProcessor
    """Processor without these data."""

    @cached_property
    def processor(self) -> TranslationProcessor:
        """Processor that checks a model against the longest sentences of these data."""
        return replace(self.learned, longest=tuple(self._longest()))

    def _longest(self) -> Iterator[LongSentence]:
        for split in self.corpus.splits:
            rows = self.rows if split == "train" else self.held_out[split]
            for side, (row, tokens) in zip(get_args(Side), rows.longest, strict=True):
                if side == "source" or split in ("train", "valid"):  # others have no loss
                    yield LongSentence(f"`{split}`, {side}, row {row:,},", side, tokens)

    @property
    def metric(self) -> Metric:
        """BLEU of the first split to translate."""
        return Metric(name="bleu", label=f"BLEU, {self.config.evaluate_on[0]}", better="higher")

    @property
    def training(self) -> TranslationTraining:
        """Training settings of one model."""
        return self.config.training

    @property
    def scorers(self) -> Scorers:
        """BLEU and chrF as the settings want them."""
        return Scorers(tokenizer=self.config.bleu_tokenizer, lowercase=self.config.lowercase)

    @cached_property
    def rows(self) -> PairRows:
        """The training set, encoded once for all models."""
        return self._encoded("train", longest=self.config.max_length)

    @cached_property
    def held_out(self) -> Mapping[str, PairRows]:
        """The other splits, with pairs of any length, encoded once for all models."""
        return {name: self._encoded(name) for name in self.corpus.splits if name != "train"}

    def _encoded(self, split: str, *, longest: int | None = None) -> PairRows:
        pairs, subwords = self.corpus.splits[split], self.learned.subwords
        return PairRows(
            subwords.encode_source(pairs.source),
            subwords.encode_target(pairs.target),
            longest=longest,
        )

    def check(self) -> None:
        """Find faults before training that would show after it.

        Raises:
            EmptySideError: no training pair is short enough.
            MissingPackageError: sacrebleu is not installed.
        """
        _ = self.signatures
        if "train" in self.corpus.splits and not len(self.rows):
            origin = self.corpus.splits["train"].origin
            place = f"{origin}, without pairs of more than {self.config.max_length} tokens"
            raise EmptySideError(place=place, split="train")

    @cached_property
    def signatures(self) -> Mapping[str, Mapping[str, str]]:
        """Signatures of both metrics on each split."""
        return {
            split: self.scorers.signatures(_references(self.corpus.splits[split]))
            for split in self.config.evaluate_on
        }

    def describe(self) -> Mapping[str, object]:
        """Sources, fingerprint, sizes, and the signatures of the metrics."""
        splits: dict[str, dict[str, object]] = {
            split: {"origin": pairs.origin, "pairs": len(pairs)}
            for split, pairs in self.corpus.splits.items()
        }
        if "train" in splits:
            source, target = self.rows.tokens
            splits["train"] |= {
                "empty_left_out": self.corpus.splits["train"].left_out,
                "too_long_left_out": self.rows.too_long,
                "source_symbols": source,
                "target_symbols": target,
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
        """The training set in batches of pairs of similar length."""
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

        return SymbolBatches(
            self.rows.lengths,
            symbols=self.config.batch_symbols,
            seed=seed,
            processes=PartialState().num_processes,
        )

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """``bleu`` and ``chrf`` of the first split, those of others with the split in front, and
        the validation loss, which is never smoothed.

        In the folder: all translations, ``samples.json``, and ``scores.json`` with signatures.
        """
        metrics: dict[str, float] = {}
        samples: list[dict[str, str]] = []
        scores: dict[str, Score] = {}
        for index, split in enumerate(self.config.evaluate_on):
            pairs = self.corpus.splits[split]
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
        """Translate a part in each process, and gather all in each."""
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
        found = evaluate(
            model,
            rows,
            self.training,
            folder=folder,
            reduce=nats_per_row,
            summarise=lambda kept: dict(zip(("nats", "tokens"), kept.sum(axis=0), strict=True)),
            collate=self._collate,
        )
        loss = found["nats"] / found["tokens"]
        return {"valid_loss": loss, "valid_perplexity": math.exp(min(loss, 700.0))}


def nats_per_row(logits: Any, labels: Tensor) -> Tensor:
    """Sum of ``-log p`` and number of tokens of each row, ``[B, 2]`` of float64.

    Args:
        logits: ``[B, T, V]``, position ``t`` predicts token ``t``; or a tuple with them first.
        labels: ``[B, T]``, -100 where nothing is predicted.
    """
    scores: Tensor = logits[0] if isinstance(logits, tuple) else logits
    nats = F.cross_entropy(
        scores.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    per_row = nats.view_as(labels).double().sum(dim=1)
    return torch.stack((per_row, labels.ne(IGNORED).sum(dim=1).double()), dim=1)


def _references(pairs: Pairs) -> tuple[tuple[str, ...], ...]:
    return (pairs.target, *pairs.others)


def _plain_name(split: str) -> str:
    """The split as a part of a file's or a metric's name."""
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
