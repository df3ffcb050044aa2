"""Pretraining as a task: text encoded, models built, trained and evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, final

from torch import Tensor, nn
from torch.utils.data import Sampler

import embshare
from embshare.models.matched import ARCHITECTURES
from embshare.tasks.pretraining.collating import FIXED, FixedMasks, Plain, TrainingMasks
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.errors import TextTooShortError, TokenizerNotForTaskError
from embshare.tasks.pretraining.generator import (
    as_masked_model,
    discriminator_scores,
    is_replacing,
)
from embshare.tasks.pretraining.processor import PretrainingProcessor
from embshare.tasks.pretraining.rows import RowBatches, Rows, Stage
from embshare.tasks.pretraining.samples import write_samples
from embshare.tasks.pretraining.scoring import METRICS, sums_per_row, to_metrics
from embshare.tasks.pretraining.sparse import labelled_logits
from embshare.tasks.pretraining.symbols import Scratch, Symbols, encode_to_disk
from embshare.tasks.pretraining.text import Side, Text, open_text
from embshare.tasks.pretraining.vocabulary import MaskedVocabulary
from embshare.tasks.processes import one_after_the_other, process_state
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Batch, Feed, Metric

__all__ = ["PreparedPretraining", "Pretraining"]

LOGITS: Final = 2**23
"""Most logits that are evaluated at once: larger blocks of memory are new pages every time."""


@final
@dataclass(frozen=True)
class Pretraining:
    """The task before its text is read."""

    config: PretrainingConfig = field(default_factory=PretrainingConfig)

    def prepare(
        self, processor: PretrainingProcessor | None = None, *, train: bool = False
    ) -> PreparedPretraining:
        """Learn the vocabulary if none is given, and encode the text to disk.

        With a vocabulary, and not to train, that is the validation side alone.

        Raises:
            PretrainingDataError: no text, too little of it, a row without one, or no such
                tokenizer.
            DataError: a file is not UTF-8, or a vocabulary cannot be that small.
            MatchedConfigError: no model has these sizes.
        """
        config = self.config
        text = open_text(config)
        train |= processor is None
        if processor is None:
            processor = PretrainingProcessor(config, _vocabulary(config, text))
        else:
            processor = replace(processor, config=config)
        for architecture in ARCHITECTURES:
            processor.model_config(architecture)
        _check_words(config, processor.vocabulary)
        kept = None if text.fingerprint is None else config.cache  # or it might be of another text
        scratch = Scratch() if kept is None else None
        folder = kept if scratch is None else scratch.path
        assert folder is not None
        with one_after_the_other(shared=kept is not None):
            sides: tuple[Side, ...] = ("train", "valid") if train else ("valid",)
            found = {
                side: _encode(config, text, side, processor.vocabulary, folder) for side in sides
            }
        for side, symbols in found.items():
            _check_count(config, text, side, symbols)
        return PreparedPretraining(
            config, text, processor, found.get("train"), found["valid"], scratch
        )

    def load_processor(self, folder: Path) -> PretrainingProcessor:
        """The tokenizer of a model that is there already.

        Raises:
            VocabularyFileError: it cannot be read.
        """
        return PretrainingProcessor(self.config, MaskedVocabulary.of(str(folder)))


def _vocabulary(config: PretrainingConfig, text: Text) -> MaskedVocabulary:
    if config.tokenizer is not None:
        return MaskedVocabulary.of(config.tokenizer)
    return MaskedVocabulary.learn(lambda: (piece.text for piece in text.sides("train")), config)


def _check_words(config: PretrainingConfig, vocabulary: MaskedVocabulary) -> None:
    if config.masking in ("words", "spans") and vocabulary.begins is None:
        raise TokenizerNotForTaskError(
            name=config.tokenizer or "learned",
            finding="its symbols do not tell where words begin",
            way_out="Choose masking='tokens' or 'ltg_spans'.",
        )


def _check_count(config: PretrainingConfig, text: Text, side: Side, symbols: Symbols) -> None:
    longest = config.length if side == "valid" else max(config.late_length or 0, config.length)
    if symbols.count < longest - 2:
        way_out = "Name a longer text, or lower `length`"
        if side == "valid" and text.every is not None and text.every > 2:
            way_out += ", or lower `held_out` so that more of it validates"
        raise TextTooShortError(
            side="training" if side == "train" else "validation",
            needs=longest - 2,
            has=symbols.count,
            way_out=f"{way_out}.",
        )


def _encode(
    config: PretrainingConfig, text: Text, side: Side, vocabulary: MaskedVocabulary, folder: Path
) -> Symbols:
    most = config.most_symbols if side == "train" else _most_valid(config, text)
    about = (text.fingerprint, vocabulary.fingerprint, config.documents, config.held_out, most)
    name = sha256(repr(about).encode()).hexdigest()[:16]
    path = folder / f"{side}-{name}.bin"
    found = Symbols.found(path)
    return found or encode_to_disk(text.sides(side), vocabulary, path, most=most)


def _most_valid(config: PretrainingConfig, text: Text) -> int | None:
    """No more symbols than this validate: of a long stream, all pieces are too many."""
    if config.most_valid_symbols is not None or config.most_symbols is None or text.every is None:
        return config.most_valid_symbols
    return max(math.ceil(config.most_symbols / (text.every - 1)), config.length)


def _labelled(logits: Tensor, batch: Batch) -> Tensor:
    """Some models score labelled positions alone, others all."""
    return labelled_logits(logits, batch["labels"])


@final
@dataclass(frozen=True)
class PreparedPretraining:
    """The task with its text at hand."""

    config: PretrainingConfig
    text: Text
    processor: PretrainingProcessor
    train: Symbols | None
    """``None`` where a trained model is only scored."""
    valid: Symbols
    scratch: Scratch | None = None
    """What removes the files of the two when this goes."""

    @property
    def metric(self) -> Metric:
        """Perplexity of hidden symbols of the validation side."""
        return Metric(
            name="masked_perplexity", label="perplexity of masked symbols", better="lower"
        )

    @property
    def training(self) -> TrainSettings:
        """How long and how fast one model is trained."""
        return self.config.training

    @property
    def vocabulary(self) -> MaskedVocabulary:
        """From text to symbols."""
        return self.processor.vocabulary

    def describe(self) -> Mapping[str, object]:
        """Source, sizes of the sides that were read, and a fingerprint of the validation side as
        symbols."""
        return {
            "text": self.text.name,
            "fingerprint": sha256(self.valid.array.tobytes()).hexdigest()[:16],
            "vocabulary": len(self.vocabulary),
            "vocabulary_fingerprint": self.vocabulary.fingerprint,
            "symbols": {side: found.count for side, found in self._sides.items()},
        }

    @property
    def _sides(self) -> Mapping[str, Symbols]:
        sides = {"train": self.train, "valid": self.valid}
        return {side: symbols for side, symbols in sides.items() if symbols is not None}

    def feed(self) -> Feed:
        """The training side in rows, in random order, masked as the settings say."""
        rows = self.rows(self._sides["train"], late_length=self.config.late_length)
        masked = self.config.objective == "masked"
        masks = TrainingMasks if masked else Plain
        return Feed(
            rows=rows,
            collate=masks(self.config, self.vocabulary, rows.total),
            batches=lambda seed: self._batches(rows, seed),
            compared=_labelled,
            not_taught=None if masked else "and its student would each replace words of their own",
        )

    def rows(self, symbols: Symbols, *, late_length: int | None = None) -> Rows:
        """A side of the text in rows for a model."""
        special = self.vocabulary.symbols
        return Rows(
            symbols,
            begin=special["cls_token_id"],
            end=special["sep_token_id"],
            length=self.config.length,
            late_length=late_length,
        )

    def _batches(self, rows: Rows, seed: int) -> Sampler[list[int]]:
        settings, processes = self.training, process_state().num_processes
        make = partial(RowBatches, rows, size=settings.batch_size, seed=seed, processes=processes)
        if self.config.late_length is None:
            return make()
        if settings.epochs is None:
            batches = settings.steps * settings.accumulation * processes
        else:  # wherever the stage begins, a pass has as many
            batches = math.ceil(settings.epochs * len(make(late=Stage(first=0))))
        first = min(round(self.config.late_from * batches), batches - 1)  # or there would be none
        return make(late=Stage(first=first))

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Perplexity and accuracy of hidden symbols of the validation side.

        In each row ``config.mask_share`` of the symbols are hidden, all of them by the mask symbol,
        and the same ones in every run, whatever the training masks. A model that replaces words is
        scored by its generator, and by how well it finds what that replaced.
        """
        from embshare.tasks.training import evaluate

        rows = self.rows(self.valid)
        settings = self._evaluation_settings()
        masks = FixedMasks(self.vocabulary, self.config.mask_share)
        with embshare.cached(model):
            found = evaluate(
                as_masked_model(model),
                rows,  # type: ignore[arg-type]  # the collator makes batches of them
                settings,
                folder=folder,
                reduce=sums_per_row,
                summarise=to_metrics,
                collate=masks,
            )
            metrics = {name: found[name] for name in METRICS}
            if is_replacing(model):
                batches = self._plain_batches(rows, settings.eval_batch_size)
                metrics.update(discriminator_scores(model.eval(), batches, seed=FIXED))  # type: ignore[arg-type]
            write_samples(self.processor, model, rows, masks, folder)
        return metrics

    def _evaluation_settings(self) -> TrainSettings:
        scored = len(self.vocabulary) * self.config.length * self.config.mask_share
        fitting = max(1, int(LOGITS / scored))
        size = min(fitting, self.training.eval_batch_size)
        return self.training.model_copy(update={"eval_batch_size": size})

    def _plain_batches(self, rows: Rows, size: int) -> Iterator[Batch]:
        whole = self.config.model_copy(update={"short_rows": 0.0})
        collate = Plain(whole, self.vocabulary, rows.total)
        for begin in range(0, len(rows), size):
            yield collate([rows[i] for i in range(begin, min(begin + size, len(rows)))])
