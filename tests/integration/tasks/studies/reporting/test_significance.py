"""Intervals, paired tests and Holm's correction, against scipy and against their definitions."""

import math
import statistics

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from embshare.tasks.studies.report import Spread
from embshare.tasks.studies.reporting.significance import Comparison, half_width, holm, paired

NUMBERS = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8)
P = st.floats(0, 1)


def by_seed(values: list[float]) -> dict[str, float]:
    return {str(seed): value for seed, value in enumerate(values)}


@given(st.lists(NUMBERS, min_size=2, max_size=12))
def test_the_interval_is_the_one_of_scipy(values: list[float]) -> None:
    deviation = statistics.stdev(values)
    assume(deviation > 1e-6)
    low, high = stats.t.interval(
        0.95, len(values) - 1, loc=statistics.fmean(values), scale=stats.sem(values)
    )
    assert half_width(deviation, len(values)) == pytest.approx((high - low) / 2, rel=1e-9)


@given(PAIRS)
def test_the_paired_test_is_the_one_of_scipy(pairs: list[tuple[float, float]]) -> None:
    row, baseline = [a for a, _ in pairs], [b for _, b in pairs]
    differences = [a - b for a, b in pairs]
    assume(max(differences) - min(differences) > 1e-2)
    found, expected = paired(by_seed(row), by_seed(baseline)), stats.ttest_rel(row, baseline)
    assert found.difference == pytest.approx(statistics.fmean(differences), abs=1e-9)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    low, high = expected.confidence_interval(0.95)
    assert found.half_width == pytest.approx((high - low) / 2, rel=1e-6)
    assert (found.pairs, found.note) == (len(pairs), "")


@given(PAIRS, st.randoms())
def test_the_order_of_seeds_is_nothing(pairs: list[tuple[float, float]], random: object) -> None:
    row, baseline = by_seed([a for a, _ in pairs]), by_seed([b for _, b in pairs])
    turned = dict(reversed(row.items()))
    one, other = paired(row, baseline), paired(turned, baseline)
    assert one.difference == pytest.approx(other.difference, abs=1e-9)
    assert (one.pairs, one.p is None) == (other.pairs, other.p is None)


def test_one_pair_has_neither_interval_nor_test() -> None:
    found = paired({"0": 3.0}, {"0": 1.0})
    assert found == Comparison(difference=2.0, pairs=1, note="one pair: no interval and no test")
    assert not found.significant


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_pair_that_diverged_is_named_and_nothing_is_tested(bad: float) -> None:
    for row, base in (([1.0, bad, 2.0], [0.0, 0.5, 0.7]), ([0.0, 0.5, 0.7], [1.0, bad, 2.0])):
        found = paired(by_seed(row), by_seed(base))
        assert not math.isfinite(found.difference)
        assert (found.p, found.half_width) == (None, None)
        assert found.note == "diverged with seed 1"


def test_seeds_without_a_pair_are_left_out_and_named() -> None:
    row, baseline = {"0": 1.0, "1": 3.0, "2": 9.0}, {"0": 0.0, "1": 1.0, "5": 7.0}
    found = paired(row, baseline)
    assert (found.difference, found.pairs) == (1.5, 2)
    assert found.p == pytest.approx(stats.ttest_rel([1.0, 3.0], [0.0, 1.0]).pvalue)
    assert found.note == "no pair for seed 2, 5"
    nothing = paired({"0": 1.0}, {"1": 1.0})
    assert nothing.pairs == 0 and math.isnan(nothing.difference)
    assert "no seed in common" in nothing.note


@given(NUMBERS, NUMBERS, st.integers(2, 6))
def test_equal_differences_prove_nothing(first: float, shift: float, count: int) -> None:
    values = [first + 0.1 * seed for seed in range(count)]
    found = paired(by_seed([value + shift for value in values]), by_seed(values))
    assert (found.p, found.half_width) == (None, None)
    assert found.note == f"all {count} differences are equal: no test"
    assert found.difference == pytest.approx(shift, abs=1e-9)


def slow_holm(p_values: list[float]) -> list[float]:
    """By its definition: the largest of all smaller ones, each times the tests that were left."""
    ordered = sorted(p_values)
    scaled = [min(1.0, (len(ordered) - rank) * p) for rank, p in enumerate(ordered)]
    return [max(scaled[: ordered.index(p) + ordered.count(p)]) for p in p_values]


@given(st.lists(P, max_size=12))
def test_holm_is_its_definition(p_values: list[float]) -> None:
    found = holm(p_values)
    # Equal values in a row have the first one's factor, which is the largest.
    assert found == pytest.approx(slow_holm(p_values))
    assert all(p <= corrected <= 1 for p, corrected in zip(p_values, found, strict=True))


def test_holm_of_a_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_a_spread_has_an_interval_where_it_has_a_deviation() -> None:
    assert Spread.over([3.0]).half_width is None
    found = Spread.over([1.0, 2.0, 3.0]).half_width
    assert found == pytest.approx(stats.t.ppf(0.975, 2) / math.sqrt(3))
    diverged = Spread.over([1.0, math.nan]).half_width
    assert diverged is not None and math.isnan(diverged)
    assert Spread.over([2.0, 2.0]).half_width == 0
