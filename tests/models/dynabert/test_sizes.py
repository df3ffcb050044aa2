"""What a sub-network keeps, in numbers, and which sizes are refused."""

from __future__ import annotations

from typing import Any

import pytest

from embshare.errors import InvalidValueError
from embshare.models.dynabert import (
    Size,
    kept_heads,
    kept_layers,
    kept_neurons,
    matched_states,
    sub_networks,
)


def test_published_widths_of_the_base_model() -> None:
    widths = (1.0, 0.75, 0.5, 0.25)
    assert [kept_heads(12, width) for width in widths] == [12, 9, 6, 3]
    assert [kept_neurons(3072, 12, width) for width in widths] == [3072, 2304, 1536, 768]


def test_published_depths_of_the_base_model() -> None:
    assert kept_layers(12, 1.0) == tuple(range(12))
    assert kept_layers(12, 0.75) == (0, 1, 2, 4, 5, 6, 8, 9, 10)
    assert kept_layers(12, 0.5) == (0, 2, 4, 6, 8, 10)
    assert matched_states(12, 0.75) == (0, 1, 2, 4, 5, 6, 8, 9, 10, 12)
    assert matched_states(12, 0.5) == (0, 2, 4, 6, 8, 10, 12)


def test_halves_are_rounded_to_the_even_number_as_officially() -> None:
    assert [kept_heads(6, width) for width in (0.25, 0.75)] == [2, 4]  # of 1.5 and of 4.5
    assert [kept_neurons(24, 6, width) for width in (0.25, 0.75)] == [8, 16]
    assert kept_neurons(10, 4, 0.25) == 2  # cut down, not rounded
    assert kept_neurons(3, 12, 0.01) == 1  # never none
    assert kept_layers(5, 0.5) == (0, 2)  # of 2.5
    assert kept_layers(10, 0.3) == (0, 3, 6)


def test_all_twelve_in_the_official_order() -> None:
    found = [(size.depth, size.width) for size in sub_networks()]
    assert len(found) == len(set(found)) == 12
    assert found[:5] == [(1.0, 1.0), (1.0, 0.75), (1.0, 0.5), (1.0, 0.25), (0.75, 1.0)]
    assert found[-1] == (0.5, 0.25)


@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan"), True, "1"])
@pytest.mark.parametrize("name", ["width", "depth"])
def test_a_share_is_above_0_and_at_most_1(name: str, share: float) -> None:
    wrong: dict[str, Any] = {name: share}
    with pytest.raises(InvalidValueError) as caught:
        Size(**wrong)
    (fault,) = caught.value.faults
    assert fault.startswith(f"`{name}`: ") and fault.endswith(f"but is {share!r}")


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(InvalidValueError) as caught:
        Size(width=2, depth=0, rounding="up")  # type: ignore[arg-type]
    assert len(caught.value.faults) == 3
    assert "'exact' or 'official', but is 'up'" in str(caught.value)


def test_a_width_that_does_not_divide_is_refused() -> None:
    with pytest.raises(InvalidValueError) as caught:
        Size(width=0.3).require_fit(heads=12, neurons=3072, layers=12)
    assert caught.value.faults == (
        "`width` must leave a whole number of the 12 heads, but 0.3 leaves 3.6 (the nearest that "
        "does is 0.3333; rounding='official' rounds)",
        "`width` must leave a whole number of the 3,072 feed-forward neurons, but 0.3 leaves "
        "921.6 (the nearest that does is 0.3001; rounding='official' rounds)",
    )


def test_a_depth_that_does_not_divide_is_refused() -> None:
    with pytest.raises(
        InvalidValueError, match=r"whole number of the 5 layers, but 0\.5 leaves 2\.5"
    ):
        Size(depth=0.5).require_fit(heads=4, neurons=8, layers=5)
    Size(depth=0.5, rounding="official").require_fit(heads=4, neurons=8, layers=5)


def test_rounding_to_nothing_is_refused() -> None:
    with pytest.raises(InvalidValueError) as caught:
        Size(width=0.1, depth=0.1, rounding="official").require_fit(heads=4, neurons=8, layers=4)
    assert caught.value.faults == (
        "`width` must leave some of the 4 heads, but 0.1 leaves none",
        "`depth` must leave some of the 4 layers, but 0.1 leaves none",
    )


def test_thirds_divide_in_floating_point() -> None:
    Size(width=1 / 3, depth=2 / 3).require_fit(heads=12, neurons=3072, layers=12)
