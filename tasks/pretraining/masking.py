"""Which symbols of a row are to be predicted, and what stands in their place.

Pure functions of arrays, with no loop over rows or symbols. Axis letters: B rows, T positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from embshare.tasks.pretraining.chance import Bools, Dice, Integers

__all__ = [
    "IGNORED",
    "Chosen",
    "choose_ltg_spans",
    "choose_spans",
    "choose_tokens",
    "choose_words",
    "hide",
    "how_many",
]

IGNORED: Final = -100
"""The label of positions that are not predicted."""
TRIES: Final = 100
"""Spans that `choose_ltg_spans` tries for one row, as the official LTG-BERT does."""

WHICH, LENGTHS, STARTS, COINS, WORDS = range(5)
"""Uses of chance."""


@dataclass(frozen=True)
class Chosen:
    """What is to be predicted."""

    where: Bools
    """``[B, T]``."""
    unit: Integers
    """``[B, T]``, from 0 to T or `TRIES`: positions of one unit share their fate, to be hidden, to
    be replaced or to stay."""


def how_many(free: Bools, *, share: float, most: int | None) -> Integers:
    """How many of the ``free`` ``[B, T]`` positions are to be predicted: ``[B]``.

    The ``share`` of them to the nearest whole number, at least one where there is any, and no more
    than ``most``.
    """
    has: Integers = free.sum(axis=1)
    wanted: Integers = np.rint(has * share).astype(np.int64).clip(min=1, max=most)
    return np.minimum(wanted, has)


def choose_tokens(free: Bools, dice: Dice, *, share: float, most: int | None = None) -> Chosen:
    """Single symbols, each as likely as any other; exactly as many as `how_many` says.

    Args:
        free: ``[B, T]``, false at special symbols.
        dice: chance.
        share: of the free ones.
        most: in one row.
    Source:
        Devlin et al. 2019.
    """
    draw = dice.uniform(WHICH, free.shape[1])
    draw[~free] = 2.0
    wanted = how_many(free, share=share, most=most)
    ordered = np.sort(draw, axis=1)
    last = np.take_along_axis(ordered, np.maximum(wanted - 1, 0)[:, None], axis=1)
    return Chosen((draw <= last) & free, _each_its_own(free))


def choose_words(
    free: Bools, begins: Bools, dice: Dice, *, share: float, most: int | None = None
) -> Chosen:
    """Whole words in random order, until as many symbols are taken as `how_many` says.

    Of the last word more than half must fit; so the share is met in the mean, not in each row. The
    first is always taken. Symbols of one word are hidden, replaced or left one by one, as in the
    BERT of 2019 with whole words.

    Args:
        free: as in `choose_tokens`.
        begins: ``[B, T]``, true at the first symbol of each word, and at special symbols.
        dice: chance.
        share: as in `choose_tokens`.
        most: likewise; a word that would exceed it is left out, but for the first.
    """
    length = free.shape[1]
    word = np.maximum(np.cumsum(begins, axis=1) - 1, 0)
    draw = np.take_along_axis(dice.uniform(WHICH, length), word, axis=1)
    draw[~free] = 2.0
    order = np.argsort(draw, axis=1, kind="stable")
    grouped = np.take_along_axis(draw, order, axis=1)
    first, after = _runs(grouped)
    wanted = how_many(free, share=share, most=most)[:, None]
    taken = (first + (after - first) / 2 <= wanted) | (first == 0)
    if most is not None:
        taken &= (after <= most) | (first == 0)
    where = np.empty_like(free)
    np.put_along_axis(where, order, taken & (grouped < 1), axis=1)
    return Chosen(where, _each_its_own(free))


def _runs(grouped: np.ndarray) -> tuple[Integers, Integers]:
    """Of each element of rows ``[B, T]`` where equal ones stand together: where its run begins, and
    where the next one does."""
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
    dice: Dice,
    *,
    share: float,
    most: int | None = None,
    stop: float = 0.2,
    longest: int = 10,
) -> Chosen:
    """Runs of whole words, until exactly as many symbols are taken as `how_many` says.

    A span begins at any word that is not taken, is as long as a geometric law says, in words, and
    the last one is cut where the number is reached. Words are tried in random order, each of them
    once, so that the number is always reached; special symbols and padding are no words, though one
    inside of a span counts in its length.

    Args:
        free: as in `choose_tokens`.
        begins: as in `choose_words`; behind a special symbol a word begins in any case.
        dice: chance.
        share: as in `choose_tokens`.
        most: likewise.
        stop: probability that a span ends after each of its words.
        longest: words of a span; lengths beyond have no probability.
    Source:
        Joshi et al. 2020, SpanBERT, section 3.1.
    """
    rows, length = free.shape
    first = begins.copy()
    first[:, 0] = True
    first[:, 1:] |= ~free[:, :-1]
    word = np.cumsum(first, axis=1) - 1
    draw = dice.uniform(STARTS, length)
    draw[~(first & free)] = 2.0
    starts = np.take_along_axis(word, np.argsort(draw, axis=1, kind="stable"), axis=1)
    law = stop * (1 - stop) ** np.arange(longest)
    until = np.cumsum(law / law.sum())[:-1]
    lengths = 1 + np.searchsorted(until, dice.uniform(LENGTHS, length), side="right")
    wanted = how_many(free, share=share, most=most)
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
    free: Bools, dice: Dice, *, share: float, stop: float = 1 / 3, below: int = 10
) -> Chosen:
    """Spans of symbols as LTG-BERT and ELC-BERT choose them.

    As many symbols as a binomial law says, or a few more, since the last span is not cut; but no
    more than `TRIES` spans, so long rows get fewer: of 2,048 symbols about 12.5 % where 15 % are
    asked for. Lengths are geometric, modulo ``below``, so some are 0; spans may overlap, begin
    before the row and end behind it; the last position is never taken. A later span decides for
    symbols that an earlier one has taken too.

    Args:
        free: as in `choose_tokens`.
        dice: chance.
        share: probability of the binomial law.
        stop: of the geometric one.
        below: what lengths are smaller than.
    Source:
        The official ``SpanMaskingStrategy``.
    """
    rows, length = free.shape
    budget = ((dice.uniform(WHICH, length) < share) & free).sum(axis=1)
    draw = dice.uniform(LENGTHS, TRIES)
    lengths = (1 + np.floor(np.log1p(-draw) / np.log1p(-stop))).astype(np.int64) % below
    room = length + 2 * lengths - 1  # starts from 1 - n up to and without T + n
    starts = 1 - lengths + (dice.uniform(STARTS, TRIES) * room).astype(np.int64)
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


def hide(
    symbols: Integers,
    chosen: Chosen,
    dice: Dice,
    *,
    mask: int,
    ordinary: Integers,
    masked_part: float = 0.8,
    random_part: float = 0.1,
) -> tuple[Integers, Integers]:
    """What a model sees, and what it has to predict.

    Args:
        symbols: ``[B, T]``.
        chosen: what is to be predicted.
        dice: chance.
        mask: the mask symbol.
        ordinary: symbols that may stand in place of others.
        masked_part: of the units of what is chosen; they become mask symbols.
        random_part: of them; each symbol becomes any ordinary one. The others stay as they are.
    Returns:
        Both ``[B, T]``: inputs, and labels with -100 where nothing is predicted.
    """
    length = symbols.shape[1]
    coins = dice.uniform(COINS, max(length, TRIES))
    coin = np.take_along_axis(coins, chosen.unit, axis=1)
    words = ordinary[(dice.uniform(WORDS, length) * len(ordinary)).astype(np.int64)]
    seen = np.where(chosen.where & (coin < masked_part), mask, symbols)
    replaced = chosen.where & (coin >= masked_part) & (coin < masked_part + random_part)
    return np.where(replaced, words, seen), np.where(chosen.where, symbols, IGNORED)


def _each_its_own(free: Bools) -> Integers:
    return np.broadcast_to(np.arange(free.shape[1]), free.shape)
