"""Rows to batches: inputs with masks, and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
import torch

from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.counter_rng import Bools, CounterRNG, Floats, Integers
from embshare.tasks.pretraining.masking import (
    Chosen,
    choose_ltg_spans,
    choose_spans,
    choose_tokens,
    choose_words,
    replace_tokens,
)
from embshare.tasks.pretraining.rows import Row
from embshare.tasks.pretraining.token_properties import TokenProperties
from embshare.tasks.task import Batch

__all__ = ["FIXED", "FixedMasks", "TrainingMasks", "Unmasked"]

CUTS: Final = 7
"""A use of random numbers beside those of masking."""
FIXED: Final = 20_180_511
"""Seed of the masks of evaluation, which are the same in every run."""


@final
@dataclass(frozen=True)
class TrainingMasks:
    """Masks as the settings say; they depend on seed, epoch and row alone."""

    config: PretrainingConfig
    properties: TokenProperties
    total: int
    """Number of rows of the text, of both lengths."""

    def __call__(self, rows: list[Row]) -> Batch:
        """``input_ids`` and ``labels`` ``[B, T]``; ``attention_mask`` where rows are short."""
        config, properties = self.config, self.properties
        epochs = [row.epoch for row in rows]
        if config.mask_copies is not None:
            epochs = [epoch % config.mask_copies for epoch in epochs]
        tokens, rng = _stack(rows), _rng(rows, epochs, self.total)
        batch, tokens = _shorten(tokens, rng, config.short_rows, properties)
        inputs, labels = replace_tokens(
            tokens,
            self._choose(tokens, rng),
            rng,
            mask=properties.tokenizer.special_ids["mask_token_id"],
            ordinary=properties.ordinary,
            masked_part=config.masked_part,
            random_part=config.random_part,
        )
        return {"input_ids": torch.from_numpy(inputs), **batch, "labels": torch.from_numpy(labels)}

    def _choose(self, tokens: Integers, rng: CounterRNG) -> Chosen:
        config, properties = self.config, self.properties
        free, share, most = ~properties.special[tokens], config.mask_share, config.most_masked
        if config.masking == "tokens":
            return choose_tokens(free, rng, share=share, most=most)
        if config.masking == "ltg_spans":
            stop = config.span_stop or 1 / 3
            return choose_ltg_spans(free, rng, share=share, stop=stop, below=config.span_limit)
        begins = properties.words_begin(tokens) | ~free
        if config.masking == "words":
            return choose_words(free, begins, rng, share=share, most=most)
        stop, longest = config.span_stop or 0.2, config.span_limit
        return choose_spans(free, begins, rng, share=share, most=most, stop=stop, longest=longest)


@final
@dataclass(frozen=True)
class Unmasked:
    """Rows without masks, for a model that masks and replaces tokens itself."""

    config: PretrainingConfig
    properties: TokenProperties
    total: int
    """Number of rows of the text, of both lengths."""

    def __call__(self, rows: list[Row]) -> Batch:
        """``input_ids`` ``[B, T]``; ``attention_mask`` where rows are short."""
        rng = _rng(rows, [row.epoch for row in rows], self.total)
        batch, tokens = _shorten(_stack(rows), rng, self.config.short_rows, self.properties)
        return {"input_ids": torch.from_numpy(tokens), **batch}


@final
@dataclass(frozen=True)
class FixedMasks:
    """Masks of evaluation: a share of each row's tokens, all masked, the same in every run."""

    properties: TokenProperties
    share: float
    seed: int = field(default=FIXED)

    def __call__(self, rows: list[Row]) -> Batch:
        """``input_ids`` and ``labels`` ``[B, T]``."""
        tokens = _stack(rows)
        rng = CounterRNG(self.seed, np.array([row.number for row in rows], dtype=np.int64))
        inputs, labels = replace_tokens(
            tokens,
            choose_tokens(~self.properties.special[tokens], rng, share=self.share),
            rng,
            mask=self.properties.tokenizer.special_ids["mask_token_id"],
            ordinary=self.properties.ordinary,
            masked_part=1.0,
            random_part=0.0,
        )
        return {"input_ids": torch.from_numpy(inputs), "labels": torch.from_numpy(labels)}


def _stack(rows: Sequence[Row]) -> Integers:
    tokens: Integers = np.stack([row.tokens for row in rows])
    return tokens


def _rng(rows: Sequence[Row], epochs: Sequence[int], total: int) -> CounterRNG:
    keys = [epoch * total + row.number for epoch, row in zip(epochs, rows, strict=True)]
    return CounterRNG(rows[0].seed, np.array(keys, dtype=np.int64))


def _shorten(
    tokens: Integers, rng: CounterRNG, share: float, properties: TokenProperties
) -> tuple[Batch, Integers]:
    """Truncate a share of the rows ``[B, T]`` at a random length, with an end and padding.

    Returns:
        ``attention_mask`` ``[B, T]``, unless the share is 0, and the rows.
    """
    if share == 0:
        return {}, tokens
    length, draw = tokens.shape[1], rng.uniform(CUTS, 2)
    kept = np.where(draw[:, 0] < share, _lengths(draw[:, 1], length), length)
    place = np.arange(length)
    special = properties.tokenizer.special_ids
    tokens = np.where(place == kept[:, None] - 1, special["sep_token_id"], tokens)
    real: Bools = place < kept[:, None]
    tokens = np.where(real, tokens, special["pad_token_id"])
    return {"attention_mask": torch.from_numpy(real.astype(np.int64))}, tokens


def _lengths(draw: Floats, length: int) -> Integers:
    """From 3, a token between beginning and end, to one less than all."""
    return 3 + (draw * (length - 3)).astype(np.int64)
