"""Pretraining as a task: text encoded, models built, trained and evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, final

from torch import Tensor, nn
from torch.utils.data import Sampler

import embshare
from embshare.models.matched import ARCHITECTURES
from embshare.tasks.errors import DataError
from embshare.tasks.pretraining.collating import FIXED, FixedMasks, TrainingMasks, Unmasked
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.data import Scratch, Split, Text, Tokens, encode_to_disk, open_text
from embshare.tasks.pretraining.masked_models import as_masked_model, is_replacing, labelled_logits
from embshare.tasks.pretraining.metrics import (
    METRICS,
    discriminator_scores,
    sums_per_row,
    to_metrics,
    write_samples,
)
from embshare.tasks.pretraining.processor import NEEDED, PretrainingProcessor
from embshare.tasks.pretraining.rows import RowBatches, Rows, Stage
from embshare.tasks.processes import one_after_the_other, process_state
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Batch, Feed, Metric
from embshare.tasks.text.errors import TokenizerError
from embshare.tasks.text.tokenizer import TextTokenizer

__all__ = ["PreparedPretraining", "Pretraining", "learn_tokenizer"]

LOGITS: Final = 2**23
"""Maximum number of logits at once in evaluation: larger blocks of memory are new pages every
time."""
SAMPLE: Final = 2**28
"""Characters of the training set, from its beginning, that a vocabulary is learned from."""


@final
@dataclass(frozen=True)
class Pretraining:
    """The task before its text is read."""

    config: PretrainingConfig = field(default_factory=PretrainingConfig)

    def prepare(
        self, processor: PretrainingProcessor | None = None, *, train: bool = False
    ) -> PreparedPretraining:
        """Learn a vocabulary unless one is given, and encode the text to disk.

        With a vocabulary and without training, that is the validation set alone.

        Raises:
            DataError: no text, too little of it, a row without one, or a file that is not UTF-8;
                with its line.
            VocabularySizeError: there is no vocabulary of this size.
            TokenizerError: the tokenizer that the settings name cannot be used.
            MatchedConfigError: no model has these sizes.
        """
        config = self.config
        text = open_text(config)
        train |= processor is None
        if processor is None:
            processor = PretrainingProcessor(config, _tokenizer(config, text))
        else:
            processor = replace(processor, config=config)
        for architecture in ARCHITECTURES:
            processor.model_config(architecture)
        _check_words(config, processor)
        kept = None if text.fingerprint is None else config.cache  # or it might be of another text
        scratch = Scratch() if kept is None else None
        folder = kept if scratch is None else scratch.path
        assert folder is not None
        splits: tuple[Split, ...] = ("train", "valid") if train else ("valid",)
        with one_after_the_other(shared=kept is not None):
            found = {
                split: _encode(config, text, split, processor.tokenizer, folder) for split in splits
            }
        for split, tokens in found.items():
            _check_count(config, text, split, len(tokens))
        return PreparedPretraining(
            config, text, processor, found.get("train"), found["valid"], scratch
        )

    def load_processor(self, folder: Path) -> PretrainingProcessor:
        """Load the tokenizer of a trained model.

        Raises:
            TokenizerError: it cannot be read.
        """
        return PretrainingProcessor(self.config, TextTokenizer.load(str(folder), needs=NEEDED))


@dataclass(frozen=True)
class _Sample:
    """The beginning of the training set, for as many readings as a vocabulary needs."""

    text: Text

    def __iter__(self) -> Iterator[str]:
        left = SAMPLE
        for piece in self.text.pieces("train"):
            yield piece.text
            left -= len(piece.text)
            if left <= 0:
                return


def _tokenizer(config: PretrainingConfig, text: Text) -> TextTokenizer:
    if config.tokenizer is not None:
        return TextTokenizer.load(config.tokenizer, needs=NEEDED)
    return learn_tokenizer(config, _Sample(text))


def learn_tokenizer(config: PretrainingConfig, texts: Iterable[str]) -> TextTokenizer:
    """Learn the vocabulary that the settings ask for.

    Args:
        config: says how, and how many tokens.
        texts: training set, which is read twice.
    Raises:
        VocabularySizeError: there is no vocabulary of this size.
    """
    wordpiece = config.tokenization == "wordpiece"
    return TextTokenizer.learn(
        texts,
        config.vocabulary_size,
        kind="wordpiece" if wordpiece else "bpe",
        lowercase=wordpiece and config.lowercase,
        max_length=config.late_length or config.length,
        reads_special=True,
    )


def _check_words(config: PretrainingConfig, processor: PretrainingProcessor) -> None:
    if config.masking in ("words", "spans") and processor.properties.begins is None:
        raise TokenizerError(
            name=config.tokenizer or "learned",
            needs="tokens that mark where words begin",
            finding="has none",
            hint="Choose masking='tokens' or 'ltg_spans'.",
        )


def _check_count(config: PretrainingConfig, text: Text, split: Split, count: int) -> None:
    longest = config.length if split == "valid" else max(config.late_length or 0, config.length)
    if count < longest - 2:
        hint = "Name a longer text, or lower `length`"
        if split == "valid" and text.every is not None and text.every > 2:
            hint += ", or lower `held_out` so that more of it is held out"
        kind = "training" if split == "train" else "validation"
        raise DataError(
            Path(text.name),
            needs=f"have at least {longest - 2:,} tokens in its {kind} set, for one sequence",
            has=f"has {count:,}",
            hint=f"{hint}.",
        )


def _encode(
    config: PretrainingConfig, text: Text, split: Split, tokenizer: TextTokenizer, folder: Path
) -> Tokens:
    most = config.max_train_tokens if split == "train" else _most_valid(config, text)
    about = (text.fingerprint, tokenizer.fingerprint, config.documents, config.held_out, most)
    name = sha256(repr(about).encode()).hexdigest()[:16]
    return encode_to_disk(
        text.pieces(split), tokenizer, folder, fingerprint=f"{split}-{name}", most=most
    )


def _most_valid(config: PretrainingConfig, text: Text) -> int | None:
    """A held-out validation set is bounded in proportion: all pieces of a long stream are too
    many."""
    if config.max_valid_tokens is not None or config.max_train_tokens is None or text.every is None:
        return config.max_valid_tokens
    return max(math.ceil(config.max_train_tokens / (text.every - 1)), config.length)


def _labelled(logits: Tensor, batch: Batch) -> Tensor:
    """Some models score labelled positions only, others all."""
    return labelled_logits(logits, batch["labels"])


@final
@dataclass(frozen=True)
class PreparedPretraining:
    """The task with its text."""

    config: PretrainingConfig
    text: Text
    processor: PretrainingProcessor
    train: Tokens | None
    """``None`` where a trained model is only evaluated."""
    valid: Tokens
    scratch: Scratch | None = None
    """Removes the files of both with this object."""

    @property
    def metric(self) -> Metric:
        """Perplexity of masked tokens of the validation set."""
        return Metric(name="masked_perplexity", label="perplexity of masked tokens", better="lower")

    @property
    def training(self) -> TrainSettings:
        """Training settings of one model."""
        return self.config.training

    @property
    def tokenizer(self) -> TextTokenizer:
        """From text to tokens."""
        return self.processor.tokenizer

    def describe(self) -> Mapping[str, object]:
        """Describe source, sizes of vocabulary and splits, and a fingerprint of the tokens of the
        validation set."""
        return {
            "text": self.text.name,
            "fingerprint": sha256(self.valid.read().tobytes()).hexdigest()[:16],
            "vocabulary": len(self.tokenizer),
            "vocabulary_fingerprint": self.tokenizer.fingerprint,
            "tokens": {split: len(found) for split, found in self._splits.items()},
        }

    @property
    def _splits(self) -> Mapping[str, Tokens]:
        splits = {"train": self.train, "valid": self.valid}
        return {split: tokens for split, tokens in splits.items() if tokens is not None}

    def feed(self) -> Feed:
        """Rows of the training set in random order, masked as the settings say."""
        rows = self.rows(self._splits["train"], late_length=self.config.late_length)
        masked = self.config.objective == "masked"
        masks = TrainingMasks if masked else Unmasked
        return Feed(
            rows=rows,
            collate=masks(self.config, self.processor.properties, rows.total),
            batches=lambda seed: self._batches(rows, seed),
            compared=_labelled,
            not_taught=None if masked else "and its student would each replace tokens of their own",
        )

    def rows(
        self, tokens: Tokens, *, late_length: int | None = None, most: int | None = None
    ) -> Rows:
        """Rows of a split for a model; with ``most`` its first ones."""
        special = self.processor.special
        return Rows(
            tokens,
            begin=special["cls_token_id"],
            end=special["sep_token_id"],
            length=self.config.length,
            late_length=late_length,
            most=most,
        )

    def _batches(self, rows: Rows, seed: int) -> Sampler[list[int]]:
        settings, processes = self.training, process_state().num_processes
        make = partial(RowBatches, rows, size=settings.batch_size, seed=seed, processes=processes)
        if self.config.late_length is None:
            return make()
        if settings.epochs is None:
            batches = settings.steps * settings.accumulation * processes
        else:  # wherever the stage begins, an epoch has as many
            batches = math.ceil(settings.epochs * len(make(late=Stage(first=0))))
        first = min(round(self.config.late_from * batches), batches - 1)  # or there would be none
        return make(late=Stage(first=first))

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Perplexity and accuracy of masked tokens of the validation set.

        In each row ``config.mask_share`` of the tokens become mask tokens, the same ones in every
        run, whatever the training masks. A model that replaces tokens is scored by its generator,
        and by how well it detects what that replaced.
        """
        from embshare.tasks.training import evaluate

        rows = self.rows(self.valid, most=self.config.eval_limit)
        settings = self._evaluation_settings()
        masks = FixedMasks(self.processor.properties, self.config.mask_share)
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
                batches = self._unmasked_batches(rows, settings.eval_batch_size)
                metrics.update(discriminator_scores(model.eval(), batches, seed=FIXED))  # type: ignore[arg-type]
            write_samples(self.tokenizer, model, rows, masks, folder)
        return metrics

    def _evaluation_settings(self) -> TrainSettings:
        scored = len(self.tokenizer) * self.config.length * self.config.mask_share
        fitting = max(1, int(LOGITS / scored))
        size = min(fitting, self.training.eval_batch_size)
        return self.training.model_copy(update={"eval_batch_size": size})

    def _unmasked_batches(self, rows: Rows, size: int) -> Iterator[Batch]:
        whole = self.config.model_copy(update={"short_rows": 0.0})
        collate = Unmasked(whole, self.processor.properties, rows.total)
        for begin in range(0, len(rows), size):
            yield collate([rows[i] for i in range(begin, min(begin + size, len(rows)))])
