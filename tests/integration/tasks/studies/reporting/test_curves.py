"""Learning curves: read as runs write them, averaged over seeds, thinned."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embshare.tasks.studies.reporting.curves import Curve, mean_curve, read_curve, thinned

CURVES = st.dictionaries(st.integers(0, 500), st.floats(0, 10), max_size=300).map(
    lambda found: sorted(found.items())
)


@given(CURVES, st.integers(3, 50))
def test_a_thinned_curve_keeps_ends_and_mean(curve: Curve, most: int) -> None:
    found = thinned(curve, most)
    assert len(found) == min(len(curve), most)
    assert found[:1] == curve[:1] and found[-1:] == curve[-1:]
    assert [step for step, _ in found] == sorted({step for step, _ in found})
    assert {step for step, _ in found} <= {step for step, _ in curve}
    if curve:
        losses = [loss for _, loss in curve]
        assert all(min(losses) - 1e-9 <= loss <= max(losses) + 1e-9 for _, loss in found)


def test_neighbours_are_averaged() -> None:
    curve = [(step, float(step % 2)) for step in range(102)]
    assert [loss for _, loss in thinned(curve, 12)] == [0.0, *[0.5] * 10, 1.0]


def test_the_mean_is_over_steps_that_all_have() -> None:
    assert mean_curve([[(1, 2.0), (2, 4.0)], [(2, 2.0), (3, 1.0)], []]) == [(2, 3.0)]
    assert mean_curve([[], []]) == []


@pytest.mark.parametrize(
    ("content", "curve"),
    [
        ('[{"step": 2, "loss": 1.5}, {"step": 1, "loss": 3}]', [(1, 3.0), (2, 1.5)]),
        ('[{"step": 1, "loss": null}, {"loss": 1.0}, 5]', []),
        ("{}", []),
        ("[", []),
    ],
)
def test_a_curve_is_read_as_far_as_it_is_one(content: str, curve: Curve, tmp_path: Path) -> None:
    (tmp_path / "curve.json").write_text(content)
    assert read_curve(tmp_path) == curve
    assert read_curve(tmp_path / "none") == []
    assert json.dumps(curve)
