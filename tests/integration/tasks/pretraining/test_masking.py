"""Rates and properties of each way of masking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embshare.tasks.pretraining.counter_rng import Bools, CounterRNG, Integers
from embshare.tasks.pretraining.masking import (
    Chosen,
    choose_ltg_spans,
    choose_spans,
    choose_tokens,
    choose_words,
    masked_count,
    replace_tokens,
)

MASK, ORDINARY = 4, np.arange(5, 50)
WAYS = ("tokens", "words", "spans", "ltg_spans")


def numbers(rows: int, seed: int = 0) -> CounterRNG:
    return CounterRNG(seed, np.arange(rows))


def case(rows: int, length: int, seed: int = 0) -> tuple[Bools, Bools]:
    """Which tokens are ordinary, and which begin a word: a third go on with one."""
    random = np.random.default_rng(seed)
    free = random.random((rows, length)) < 0.95
    free[:, 0] = free[:, -1] = False
    begins = (random.random((rows, length)) < 0.67) | ~free
    begins[:, 1:] |= ~free[:, :-1]
    return free, begins


def choose(way: str, free: Bools, begins: Bools, rng: CounterRNG, share: float = 0.15) -> Chosen:
    match way:
        case "tokens":
            return choose_tokens(free, rng, share=share)
        case "words":
            return choose_words(free, begins, rng, share=share)
        case "spans":
            return choose_spans(free, begins, rng, share=share)
        case _:
            return choose_ltg_spans(free, rng, share=share)


def words_of(begins: Bools) -> Integers:
    found: Integers = np.maximum(np.cumsum(begins, axis=1) - 1, 0)
    return found


@pytest.mark.parametrize("way", WAYS)
@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 6),
    length=st.integers(3, 70),
    seed=st.integers(0, 2**31),
    share=st.floats(0.01, 0.6),
)
def test_nothing_special_is_chosen(
    way: str, rows: int, length: int, seed: int, share: float
) -> None:
    free, begins = case(rows, length, seed)
    chosen = choose(way, free, begins, numbers(rows, seed), share)
    assert not (chosen.where & ~free).any()
    assert chosen.unit.min() >= 0
    if way in ("tokens", "spans"):
        assert (chosen.where.sum(1) == masked_count(free, share=share, most=None)).all()
    if way == "words":
        assert (chosen.where.any(1) == free.any(1)).all()


@pytest.mark.parametrize("way", WAYS)
def test_the_share_is_met_in_the_mean(way: str) -> None:
    free, begins = case(800, 128)
    found = choose(way, free, begins, numbers(800)).where.sum() / free.sum()
    # the last span of LTG-BERT is not cut
    assert found == pytest.approx(0.15, abs=0.003 if way != "ltg_spans" else 0.016)


@pytest.mark.parametrize("way", WAYS)
def test_a_row_is_masked_alike_in_every_batch(way: str) -> None:
    free, begins = case(9, 40)
    whole = choose(way, free, begins, numbers(9))
    some = np.array([6, 2])
    part = choose(way, free[some], begins[some], CounterRNG(0, some))
    assert np.array_equal(whole.where[some], part.where)


@pytest.mark.parametrize("way", ["tokens", "words", "spans"])
def test_every_place_is_as_likely(way: str) -> None:
    free = np.ones((6000, 20), dtype=bool)
    where = choose(way, free, free, numbers(6000)).where  # every token is a word
    inner = where.mean(axis=0)[10 if way == "spans" else 0 :]
    assert inner == pytest.approx(np.full(len(inner), where[:, 10:].mean()), abs=0.025)


@pytest.mark.parametrize("most", [None, 5])
def test_words_are_taken_whole(most: int | None) -> None:
    free, begins = case(300, 60)
    chosen = choose_words(free, begins, numbers(300), share=0.3, most=most)
    word = words_of(begins)
    for row in range(300):
        taken = set(word[row][chosen.where[row]].tolist())
        whole = np.isin(word[row], list(taken)) & free[row]
        assert np.array_equal(whole, chosen.where[row])
        if most is not None and len(taken) > 1:
            assert chosen.where[row].sum() <= most


def test_spans_have_the_lengths_of_their_law() -> None:
    """One span in each row, long enough not to be cut: its length is SpanBERT's, mean 3.8."""
    free = np.ones((6000, 200), dtype=bool)
    chosen = choose_spans(free, free, numbers(6000), share=10 / 200)
    first = chosen.where & (chosen.unit == 0)
    inner = first[:, :190].any(1) & ~first[:, 190:].any(1)  # the end of a row cuts
    lengths = first[inner].sum(1)
    law = 0.2 * 0.8 ** np.arange(10)
    law /= law.sum()
    counts = np.bincount(lengths, minlength=11)[1:] / len(lengths)
    assert counts == pytest.approx(law, abs=0.02)
    assert lengths.mean() == pytest.approx(3.8, abs=0.12)  # the paper's figure


@pytest.mark.parametrize(("length", "real"), [(128, 4), (2048, 2048)])
def test_spans_are_found_in_rows_of_any_length(length: int, real: int) -> None:
    free = np.zeros((200, length), dtype=bool)
    free[:, 1 : real - 1] = True
    chosen = choose_spans(free, np.ones_like(free), numbers(200), share=0.3)
    assert (chosen.where.sum(1) == masked_count(free, share=0.3, most=None)).all()


def test_spans_are_found_where_most_is_asked_for() -> None:
    free = np.ones((20, 400), dtype=bool)
    chosen = choose_spans(free, free, numbers(20), share=0.99, longest=1)
    assert (chosen.where.sum(1) == 396).all()


def test_a_word_that_a_special_token_cuts_is_a_start_too() -> None:
    free = np.array([[False, True, True, False]])
    begins = np.array([[True, False, False, True]])  # a row that begins in the midst of a word
    chosen = choose_spans(free, begins, numbers(1), share=0.9)
    assert chosen.where.tolist() == free.tolist()


def test_ltg_spans_of_long_rows_are_as_few_as_the_official_ones() -> None:
    free = np.ones((200, 2048), dtype=bool)
    found = choose_ltg_spans(free, numbers(200), share=0.15).where.mean()
    assert found == pytest.approx(0.125, abs=0.003)


def test_spans_begin_and_end_with_words() -> None:
    free, begins = case(400, 80)
    chosen = choose_spans(free, begins, numbers(400), share=0.1, longest=3)
    word = words_of(begins)
    cut = 0
    for row in range(400):
        taken = np.unique(word[row][chosen.where[row]])
        whole = np.isin(word[row], taken) & free[row]
        cut += int(whole.sum() > chosen.where[row].sum())
        assert whole.sum() - chosen.where[row].sum() <= 8  # the last word of the last span
    assert 0 < cut < 400


def test_ltg_spans_are_geometric_and_spare_the_last_place() -> None:
    free = np.ones((6000, 600), dtype=bool)
    chosen = choose_ltg_spans(free, numbers(6000), share=0.0001)
    assert not chosen.where[:, -1].any()
    # with such a budget most rows with any have one span; those of length n mod 10 = 0 have none
    some = chosen.where[:, 20:580].any(1) & (chosen.where.sum(1) == chosen.where[:, 20:580].sum(1))
    lengths = chosen.where[some].sum(1)
    lengths = lengths[lengths < 10]
    law = (1 / 3) * (2 / 3) ** np.arange(60)
    folded = law[:60].reshape(6, 10).sum(0)[:9]  # 1 to 9, with 11 to 19 and so on
    counts = np.bincount(lengths, minlength=10)[1:] / len(lengths)
    assert counts == pytest.approx(folded / folded.sum(), abs=0.07)


def test_ltg_spans_overshoot_by_less_than_a_span() -> None:
    free, _ = case(500, 128)
    rng = numbers(500)
    budget = ((rng.uniform(0, 128) < 0.15) & free).sum(1)
    taken = choose_ltg_spans(free, rng, share=0.15).where.sum(1)
    assert (taken >= budget).all()
    assert (taken - budget).max() < 9


@pytest.mark.parametrize("way", WAYS)
def test_eight_tenths_are_masked_and_a_tenth_is_replaced(way: str) -> None:
    free, begins = case(3000, 64)
    tokens = np.random.default_rng(1).integers(5, 50, free.shape)
    rng = numbers(3000)
    chosen = choose(way, free, begins, rng)
    inputs, labels = replace_tokens(tokens, chosen, rng, mask=MASK, ordinary=ORDINARY)
    where = chosen.where
    assert np.array_equal(inputs[~where], tokens[~where])
    assert np.array_equal(labels[where], tokens[where])
    assert (labels[~where] == -100).all()
    masked = (inputs == MASK)[where].mean()
    changed = (inputs != tokens)[where].mean() - masked
    assert masked == pytest.approx(0.8, abs=0.02)
    assert changed == pytest.approx(0.1 * 44 / 45, abs=0.02)  # some are replaced by themselves
    assert inputs[inputs != tokens].max() < 50


@pytest.mark.parametrize("way", ["spans", "ltg_spans"])
def test_a_span_shares_its_fate(way: str) -> None:
    free, begins = case(300, 64)
    tokens = np.full(free.shape, 7)
    rng = numbers(300)
    chosen = choose(way, free, begins, rng)
    inputs, _ = replace_tokens(tokens, chosen, rng, mask=MASK, ordinary=ORDINARY)
    for row in range(300):
        for unit in np.unique(chosen.unit[row][chosen.where[row]]):
            fates = (inputs[row] == MASK)[chosen.where[row] & (chosen.unit[row] == unit)]
            assert fates.all() or not fates.any()


def test_a_row_without_words_has_nothing_to_predict() -> None:
    none = np.zeros((2, 9), dtype=bool)
    for way in WAYS:
        assert not choose(way, none, ~none, numbers(2)).where.any()


def test_numbers_are_rounded_limited_and_at_least_one() -> None:
    free = np.arange(30)[None, :] < np.array([0, 1, 3, 10, 30])[:, None]
    assert masked_count(free, share=0.15, most=None).tolist() == [0, 1, 1, 2, 4]
    assert masked_count(free, share=0.15, most=3).tolist() == [0, 1, 1, 2, 3]
