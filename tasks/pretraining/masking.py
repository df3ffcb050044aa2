"""Which tokens of a row are masked, and what replaces them.

Pure functions of arrays, without a loop over rows or tokens. Axis letters: B rows, T positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from embshare.models.matched.embedding import IGNORED
from embshare.tasks.pretraining.counter_rng import Bools, CounterRNG, Integers

__all__ = [
    "Chosen",
    "choose_ltg_spans",
    "choose_spans",
    "choose_tokens",
    "choose_words",
    "masked_count",
    "replace_tokens",
]

TRIES: Final = 100
"""Number of spans that `choose_ltg_spans` tries in a row, as in the official LTG-BERT."""

WHICH, LENGTHS, STARTS, COINS, WORDS = range(5)
"""Uses of the random numbers."""


@dataclass(frozen=True)
class Chosen:
    """The masked positions."""

    where: Bools
    """``[B, T]``."""
    unit: Integers
    """``[B, T]``, from 0 to T or `TRIES`: positions of one unit are replaced alike, by mask tokens,
    by random tokens or not at all."""


def masked_count(free: Bools, *, share: float, most: int | None) -> Integers:
    """Number of the ``free`` ``[B, T]`` positions to mask: ``[B]``.

    The ``share`` of them to the nearest whole number, at least one where there is any, and at most
    ``most``.
    """
    has: Integers = free.sum(axis=1)
    wanted: Integers = np.rint(has * share).astype(np.int64).clip(min=1, max=most)
    return np.minimum(wanted, has)


def choose_tokens(free: Bools, rng: CounterRNG, *, share: float, most: int | None = None) -> Chosen:
    """Single tokens, all equally likely; exactly `masked_count` of them.

    transformers' ``DataCollatorForLanguageModeling`` draws from the global random state, or from a
    generator for each worker: a resumed run, or one with other workers, has other masks.

    Args:
        free: ``[B, T]``, false at special tokens.
        rng: random numbers.
        share: masking ratio.
        most: maximum number in a row.
    Source:
        Devlin et al. 2019.
    """
    draw = rng.uniform(WHICH, free.shape[1])
    draw[~free] = 2.0
    wanted = masked_count(free, share=share, most=most)
    ordered = np.sort(draw, axis=1)
    last = np.take_along_axis(ordered, np.maximum(wanted - 1, 0)[:, None], axis=1)
    return Chosen((draw <= last) & free, _each_its_own(free))


def choose_words(
    free: Bools, begins: Bools, rng: CounterRNG, *, share: float, most: int | None = None
) -> Chosen:
    """Whole words in random order, until about `masked_count` tokens are taken.

    More than half of the last word must fit, so the ratio is met in the mean, not in each row. The
    first word is always taken. Tokens of one word are replaced one by one, as in the BERT of 2019
    with whole-word masking.

    Args:
        free: as in `choose_tokens`.
        begins: ``[B, T]``, true at the first token of each word, and at special tokens.
        rng: random numbers.
        share: as in `choose_tokens`.
        most: maximum number in a row; a word that would exceed it is left out, except the first.
    """
    length = free.shape[1]
    word = np.maximum(np.cumsum(begins, axis=1) - 1, 0)
    draw = np.take_along_axis(rng.uniform(WHICH, length), word, axis=1)
    draw[~free] = 2.0
    order = np.argsort(draw, axis=1, kind="stable")
    grouped = np.take_along_axis(draw, order, axis=1)
    first, after = _runs(grouped)
    wanted = masked_count(free, share=share, most=most)[:, None]
    taken = (first + (after - first) / 2 <= wanted) | (first == 0)
    if most is not None:
        taken &= (after <= most) | (first == 0)
    where = np.empty_like(free)
    np.put_along_axis(where, order, taken & (grouped < 1), axis=1)
    return Chosen(where, _each_its_own(free))


def _runs(grouped: np.ndarray) -> tuple[Integers, Integers]:
    """Beginning of the run of equal values of each element of rows ``[B, T]``, and of the next
    run."""
    length = grouped.shape[1]
    place = np.arange(length)
    new = np.ones(grouped.shape, dtype=bool)
    new[:, 1:] = grouped[:, 1:] != grouped[:, :-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    ends = np.full(grouped.shape, length)
    ends[:, :-1] = np.where(new[:, 1:], place[1:], length)
    after = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    return first, after


def choose_spans(
    free: Bools,
    begins: Bools,
    rng: CounterRNG,
    *,
    share: float,
    most: int | None = None,
    stop: float = 0.2,
    longest: int = 10,
) -> Chosen:
    """Spans of whole words, until exactly `masked_count` tokens are taken.

    A span begins at any word that is not taken yet, its length in words is geometric, and the last
    one is cut where the number is reached. Each word is tried once in random order, so that the
    number is always reached; special tokens and padding are no words, though one within a span
    counts in its length.

    Args:
        free: as in `choose_tokens`.
        begins: as in `choose_words`; after a special token a word begins in any case.
        rng: random numbers.
        share: as in `choose_tokens`.
        most: as in `choose_tokens`.
        stop: probability that a span ends after each of its words.
        longest: maximum number of words of a span.
    Source:
        Joshi et al. 2020, SpanBERT, section 3.1.
    """
    rows, length = free.shape
    first = begins.copy()
    first[:, 0] = True
    first[:, 1:] |= ~free[:, :-1]
    word = np.cumsum(first, axis=1) - 1
    draw = rng.uniform(STARTS, length)
    draw[~(first & free)] = 2.0
    starts = np.take_along_axis(word, np.argsort(draw, axis=1, kind="stable"), axis=1)
    law = stop * (1 - stop) ** np.arange(longest)
    until = np.cumsum(law / law.sum())[:-1]
    lengths = 1 + np.searchsorted(until, rng.uniform(LENGTHS, length), side="right")
    wanted = masked_count(free, share=share, most=most)
    where, unit = np.zeros((rows, length), dtype=bool), np.zeros((rows, length), dtype=np.int64)
    for number in range(length):
        missing = wanted - where.sum(axis=1)
        if not missing.any():
            break
        start = starts[:, number, None]
        inside = (word >= start) & (word < start + lengths[:, number, None]) & free
        inside &= ~((word == start) & where).any(axis=1, keepdims=True)
        inside &= ~where
        inside &= np.cumsum(inside, axis=1) <= missing[:, None]
        where |= inside
        unit[inside] = number
    return Chosen(where, unit)


def choose_ltg_spans(
    free: Bools, rng: CounterRNG, *, share: float, stop: float = 1 / 3, below: int = 10
) -> Chosen:
    """Spans of tokens as in LTG-BERT and ELC-BERT.

    The number of tokens is binomial, or a little larger, since the last span is not cut; but there
    are at most `TRIES` spans, so long rows have fewer: about 12.5 % of 2,048 tokens for a ratio of
    15 %. Lengths are geometric, modulo ``below``, so some are 0; spans may overlap, begin before
    the row and end after it; the last position is never taken. Where spans overlap, the later one
    decides what replaces a token.

    Args:
        free: as in `choose_tokens`.
        rng: random numbers.
        share: probability of the binomial distribution.
        stop: probability of the geometric distribution.
        below: upper bound of lengths, exclusive.
    Source:
        The official ``SpanMaskingStrategy``.
    """
    rows, length = free.shape
    budget = ((rng.uniform(WHICH, length) < share) & free).sum(axis=1)
    draw = rng.uniform(LENGTHS, TRIES)
    lengths = (1 + np.floor(np.log1p(-draw) / np.log1p(-stop))).astype(np.int64) % below
    room = length + 2 * lengths - 1  # starts from 1 - n up to and without T + n
    starts = 1 - lengths + (rng.uniform(STARTS, TRIES) * room).astype(np.int64)
    place = np.arange(length)
    open_ = free & (place < length - 1)
    where, unit = np.zeros((rows, length), dtype=bool), np.zeros((rows, length), dtype=np.int64)
    for number in range(TRIES):
        going = where.sum(axis=1) < budget
        if not going.any():
            break
        start = starts[:, number, None]
        inside = (place >= start) & (place < start + lengths[:, number, None]) & open_
        inside &= going[:, None]
        where |= inside
        unit[inside] = number
    return Chosen(where, unit)


def replace_tokens(
    tokens: Integers,
    chosen: Chosen,
    rng: CounterRNG,
    *,
    mask: int,
    ordinary: Integers,
    masked_part: float = 0.8,
    random_part: float = 0.1,
) -> tuple[Integers, Integers]:
    """Inputs and labels of a model.

    Args:
        tokens: ``[B, T]``.
        chosen: positions to predict.
        rng: random numbers.
        mask: the mask token.
        ordinary: tokens that may replace others.
        masked_part: fraction of the chosen units that become mask tokens.
        random_part: fraction of them whose tokens become random ordinary ones; the rest is
            unchanged.
    Returns:
        Inputs ``[B, T]``, and labels ``[B, T]`` with -100 where nothing is predicted.
    """
    length = tokens.shape[1]
    coins = rng.uniform(COINS, max(length, TRIES))
    coin = np.take_along_axis(coins, chosen.unit, axis=1)
    words = ordinary[(rng.uniform(WORDS, length) * len(ordinary)).astype(np.int64)]
    seen = np.where(chosen.where & (coin < masked_part), mask, tokens)
    replaced = chosen.where & (coin >= masked_part) & (coin < masked_part + random_part)
    return np.where(replaced, words, seen), np.where(chosen.where, tokens, IGNORED)


def _each_its_own(free: Bools) -> Integers:
    return np.broadcast_to(np.arange(free.shape[1]), free.shape)
