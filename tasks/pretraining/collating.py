"""Rows to batches: what a model sees, and what it has to predict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
import torch

from embshare.tasks.pretraining.chance import Bools, Dice, Floats, Integers
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.masking import (
    Chosen,
    choose_ltg_spans,
    choose_spans,
    choose_tokens,
    choose_words,
    hide,
)
from embshare.tasks.pretraining.rows import PASSES, Row
from embshare.tasks.pretraining.vocabulary import MaskedVocabulary
from embshare.tasks.task import Batch

__all__ = ["FIXED", "FixedMasks", "Plain", "TrainingMasks"]

CUTS: Final = 7
"""A use of chance beside those of masking."""
FIXED: Final = 20_180_511
"""Seed of the masks of evaluation, which are the same in every run."""


@final
@dataclass(frozen=True)
class TrainingMasks:
    """Masks as the settings say; they depend on seed, pass and row alone."""

    config: PretrainingConfig
    vocabulary: MaskedVocabulary
    total: int
    """Rows of the text, of either length."""

    def __call__(self, rows: list[Row]) -> Batch:
        """``input_ids`` and ``labels`` ``[B, T]``; ``attention_mask`` where rows are short."""
        config, vocabulary = self.config, self.vocabulary
        symbols, dice = np.stack([row.symbols for row in rows]), self._dice(rows)
        batch, symbols = _shorten(symbols, dice, config.short_rows, vocabulary)
        chosen = self._choose(symbols, dice)
        inputs, labels = hide(
            symbols,
            chosen,
            dice,
            mask=vocabulary.symbols["mask_token_id"],
            ordinary=vocabulary.ordinary,
            masked_part=config.masked_part,
            random_part=config.random_part,
        )
        return {"input_ids": torch.from_numpy(inputs), **batch, "labels": torch.from_numpy(labels)}

    def _dice(self, rows: list[Row]) -> Dice:
        seed, _ = divmod(rows[0].visit, PASSES)
        keys = [self._turn(row.visit % PASSES) * self.total + row.number for row in rows]
        return Dice(seed, np.array(keys, dtype=np.int64))

    def _turn(self, number: int) -> int:
        copies = self.config.mask_copies
        return number if copies is None else number % copies

    def _choose(self, symbols: Integers, dice: Dice) -> Chosen:
        config, vocabulary = self.config, self.vocabulary
        free, share, most = ~vocabulary.special[symbols], config.mask_share, config.most_masked
        if config.masking == "tokens":
            return choose_tokens(free, dice, share=share, most=most)
        if config.masking == "ltg_spans":
            stop = config.span_stop or 1 / 3
            return choose_ltg_spans(free, dice, share=share, stop=stop, below=config.span_limit)
        begins = vocabulary.words_begin(symbols) | ~free
        if config.masking == "words":
            return choose_words(free, begins, dice, share=share, most=most)
        stop, longest = config.span_stop or 0.2, config.span_limit
        return choose_spans(free, begins, dice, share=share, most=most, stop=stop, longest=longest)


@final
@dataclass(frozen=True)
class Plain:
    """Rows as they are, for a model that hides and replaces words itself."""

    config: PretrainingConfig
    vocabulary: MaskedVocabulary
    total: int

    def __call__(self, rows: list[Row]) -> Batch:
        """``input_ids`` ``[B, T]``; ``attention_mask`` where rows are short."""
        keys = [row.visit % PASSES * self.total + row.number for row in rows]
        dice = Dice(rows[0].visit // PASSES, np.array(keys, dtype=np.int64))
        symbols = np.stack([row.symbols for row in rows])
        batch, symbols = _shorten(symbols, dice, self.config.short_rows, self.vocabulary)
        return {"input_ids": torch.from_numpy(symbols), **batch}


@final
@dataclass(frozen=True)
class FixedMasks:
    """The masks of evaluation: a share of each row's symbols, all hidden, the same in every run."""

    vocabulary: MaskedVocabulary
    share: float
    seed: int = field(default=FIXED)

    def __call__(self, rows: list[Row]) -> Batch:
        """``input_ids`` and ``labels`` ``[B, T]``."""
        symbols = np.stack([row.symbols for row in rows])
        dice = Dice(self.seed, np.array([row.number for row in rows], dtype=np.int64))
        chosen = choose_tokens(~self.vocabulary.special[symbols], dice, share=self.share)
        inputs, labels = hide(
            symbols,
            chosen,
            dice,
            mask=self.vocabulary.symbols["mask_token_id"],
            ordinary=self.vocabulary.ordinary,
            masked_part=1.0,
            random_part=0.0,
        )
        return {"input_ids": torch.from_numpy(inputs), "labels": torch.from_numpy(labels)}


def _shorten(
    symbols: Integers, dice: Dice, share: float, vocabulary: MaskedVocabulary
) -> tuple[Batch, Integers]:
    """A share of the rows ``[B, T]`` cut at a random length, with an end and padding behind it.

    Returns:
        ``attention_mask`` ``[B, T]``, unless the share is 0, and the rows.
    """
    if share == 0:
        return {}, symbols
    length, draw = symbols.shape[1], dice.uniform(CUTS, 2)
    kept = np.where(draw[:, 0] < share, _lengths(draw[:, 1], length), length)
    place = np.arange(length)
    special = vocabulary.symbols
    symbols = np.where(place == kept[:, None] - 1, special["sep_token_id"], symbols)
    real: Bools = place < kept[:, None]
    symbols = np.where(real, symbols, special["pad_token_id"])
    return {"attention_mask": torch.from_numpy(real.astype(np.int64))}, symbols


def _lengths(draw: Floats, length: int) -> Integers:
    """From 3, a symbol between beginning and end, to one less than all."""
    return 3 + (draw * (length - 3)).astype(np.int64)
