"""Fronts against the definition, and what a byte costs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embshare.tasks.studies.reporting.fronts import pareto_front
from embshare.tasks.studies.reporting.trades import trade

VALUES = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))
POINTS = st.lists(st.tuples(st.integers(0, 4).map(float), VALUES), max_size=12)


def beats(one: tuple[float, float], other: tuple[float, float], lower: bool) -> bool:
    """Whether a point is as good in both numbers and better in one."""
    sign = 1 if lower else -1
    less, better = one[0] <= other[0], sign * one[1] <= sign * other[1]
    return less and better and one != other


@given(POINTS, st.booleans())
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]], lower: bool) -> None:
    finite = [n for n, point in enumerate(points) if math.isfinite(point[1])]
    unbeaten = [n for n in finite if not any(beats(points[m], points[n], lower) for m in finite)]
    expected = {points[n] for n in unbeaten}
    found = pareto_front(points, lower=lower)
    assert {points[n] for n in found} == expected
    assert len(found) == len(expected), "of equal points the first is on the front"
    assert all(points.index(points[n]) == n for n in found)
    assert [points[n][0] for n in found] == sorted(points[n][0] for n in found)


@pytest.mark.parametrize(
    ("larger_by", "difference", "lower", "kind", "rate"),
    [
        (-2_000_000, 3.0, True, "saves", 1.5),
        (-2_000_000, -3.0, False, "saves", 1.5),
        (500_000, -1.0, True, "adds", 2.0),
        (-10, -1.0, True, "free", None),
        (-10, 0.0, True, "free", None),
        (10, 1.0, True, "loses", None),
        (10, 0.0, False, "loses", None),
        (0, 1.0, True, "same size", None),
    ],
)
def test_a_trade_says_what_a_megabyte_costs_or_gains(
    larger_by: int, difference: float, lower: bool, kind: str, rate: float | None
) -> None:
    found = trade(larger_by=larger_by, difference=difference, lower=lower)
    assert found is not None
    assert (found.kind, found.per_megabyte) == (kind, rate)


def test_what_diverged_is_no_trade() -> None:
    assert trade(larger_by=-1, difference=math.nan, lower=True) is None


def test_free_savings_are_first_and_losses_last() -> None:
    changes = [(10, 1.0), (-10, 5.0), (-10, 1.0), (10, -5.0), (10, -1.0), (-10, -1.0), (0, 1.0)]
    found = [trade(larger_by=size, difference=d, lower=True) for size, d in changes]
    trades = sorted((each for each in found if each is not None), key=lambda each: each.order)
    assert [(t.bytes, t.worse) for t in trades] == [
        (-10, -1.0),
        (-10, 1.0),
        (-10, 5.0),
        (10, -5.0),
        (10, -1.0),
        (0, 1.0),
        (10, 1.0),
    ]
