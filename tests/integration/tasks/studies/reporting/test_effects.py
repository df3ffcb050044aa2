"""Main effects and interactions against loops, and against scipy's analysis of variance."""

import itertools
import math
import statistics
from collections.abc import Iterable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from embshare.tasks.studies.reporting.effects import Point, balanced, effects_of

SIZES = st.lists(st.integers(2, 3), min_size=1, max_size=3)
VALUE = st.floats(-100, 100).map(lambda value: round(value, 2))


def grid(sizes: list[int]) -> list[dict[str, str]]:
    """All points of a full grid; the last axis is the seed."""
    names = [*(f"axis{n}" for n in range(len(sizes) - 1)), "seed"]
    return [
        dict(zip(names, map(str, key), strict=True))
        for key in itertools.product(*(range(size) for size in sizes))
    ]


@st.composite
def points(draw: st.DrawFn) -> list[Point]:
    """The trials of a full grid in any order."""
    labels = draw(st.permutations(grid(draw(SIZES))))
    return [(label, draw(VALUE)) for label in labels]


def mean(values: Iterable[float]) -> float:
    return statistics.fmean(list(values))


def mean_at(given_points: list[Point], **labels: str) -> float:
    """Mean of the trials with these labels."""
    return mean(v for point, v in given_points if labels.items() <= point.items())


@given(points())
def test_effects_are_means_over_all_else(given_points: list[Point]) -> None:
    found = effects_of(given_points)
    assert found is not None and found.used == found.given == len(given_points)
    assert found.mean == pytest.approx(mean(v for _, v in given_points), abs=1e-9)
    for effect in found.main:
        assert list(effect.means) == list(dict.fromkeys(p[effect.axis] for p, _ in given_points))
        for label, value in effect.means.items():
            assert value == pytest.approx(mean_at(given_points, **{effect.axis: label}), abs=1e-9)


@given(points())
def test_interactions_are_what_is_left_of_cells(given_points: list[Point]) -> None:
    found = effects_of(given_points)
    assert found is not None
    for pair in found.interactions:
        one, other = pair.axes
        beyond = {}
        for label, another in {(p[one], p[other]) for p, _ in given_points}:
            added = mean_at(given_points, **{one: label})
            added += mean_at(given_points, **{other: another}) - found.mean
            beyond[label, another] = mean_at(given_points, **{one: label, other: another}) - added
        assert "seed" not in pair.axes
        assert abs(pair.largest) == pytest.approx(max(map(abs, beyond.values())), abs=1e-9)
        assert pair.largest == pytest.approx(beyond[pair.at], abs=1e-9)


@given(points())
def test_shares_are_those_of_scipy_and_add_up(given_points: list[Point]) -> None:
    values = [value for _, value in given_points]
    assume(max(values) - min(values) > 1)
    found = effects_of(given_points)
    assert found is not None and found.rest is not None
    shares = [*(e.share for e in found.main), *(pair.share for pair in found.interactions)]
    assert sum(share for share in shares if share is not None) + found.rest == pytest.approx(1)
    for effect in found.main:
        groups = [[v for p, v in given_points if p[effect.axis] == n] for n in effect.means]
        assert effect.share is not None
        within = 1 - effect.share
        assume(within > 1e-3 and len(values) > len(groups))
        f = effect.share / (len(groups) - 1) / (within / (len(values) - len(groups)))
        assert f == pytest.approx(stats.f_oneway(*groups).statistic, rel=1e-6, abs=1e-9)


@given(SIZES, st.data())
def test_the_balanced_part_is_full(sizes: list[int], data: st.DataObject) -> None:
    labels = grid(sizes)
    there = data.draw(st.lists(st.sampled_from(labels), unique_by=str))
    kept, gone = balanced(there)
    found = [there[index] for index in kept]
    counts = [len({point[axis] for point in found}) for axis in labels[0]]
    assert len(found) == (math.prod(counts) if found else 0)
    assert all(point[axis] != label for point in found for axis, label in gone)
    assert len(kept) == len(there) if len(there) == len(labels) else True


def test_the_label_that_lacks_the_largest_share_goes_first() -> None:
    there = [{"one": "0", "two": str(n)} for n in range(10)]
    there += [{"one": "1", "two": str(n)} for n in range(4)]
    kept, gone = balanced(there)
    assert (len(kept), gone) == (10, [("one", "1")]), "not the six of `two` that have one each"


def test_what_is_missing_or_diverged_is_left_out_and_named() -> None:
    labels = grid([2, 3, 2])
    trials = [(p, 1.0 if p["axis0"] == "0" else 3.0) for p in labels]
    lost = {"axis0": "1", "axis1": "2", "seed": "1"}
    without = [(p, v) for p, v in trials if p != lost]
    diverged = [(p, math.nan if p == lost else v) for p, v in trials]
    for given_points in (without, diverged):
        found = effects_of(given_points)
        assert found is not None
        assert (found.used, found.given) == (8, len(given_points))
        assert found.left_out == ("axis1 2",)
        (effect,) = (each for each in found.main if each.axis == "axis0")
        assert (effect.means, effect.spread, effect.share) == ({"0": 1.0, "1": 3.0}, 2.0, 1.0)


def test_a_known_interaction() -> None:
    values = {("a", "x"): 0.0, ("a", "y"): 0.0, ("b", "x"): 0.0, ("b", "y"): 4.0}
    found = effects_of(
        [({"one": i, "two": j, "seed": s}, v) for (i, j), v in values.items() for s in "01"]
    )
    assert found is not None
    (pair,) = found.interactions
    assert (abs(pair.largest), pair.relative) == (1.0, 1.0)
    assert [each.share for each in found.main] == pytest.approx([1 / 3, 1 / 3, 0.0])
    assert pair.share == pytest.approx(1 / 3)


def test_where_nothing_varies_no_share_is_made_up() -> None:
    found = effects_of([(label, 0.1) for label in grid([2, 3])])
    assert found is not None
    assert {each.share for each in found.main} == {None} and found.rest is None


def test_trials_that_make_no_grid_have_no_effects() -> None:
    assert effects_of([]) is None
    assert effects_of([({"one": "a", "seed": "0"}, 1.0)]) is None
    drawn = [({"rate": str(n), "size": str(n), "seed": "0"}, float(n)) for n in range(600)]
    assert effects_of(drawn) is None, "numbers that were drawn at random"
