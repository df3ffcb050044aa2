"""Random numbers that depend on what they are for alone."""

from __future__ import annotations

import numpy as np
import pytest

from embshare.tasks.pretraining.counter_rng import CounterRNG


def numbers(*keys: int, seed: int = 0) -> CounterRNG:
    return CounterRNG(seed, np.array(keys, dtype=np.int64))


def test_a_row_has_its_numbers_in_any_batch() -> None:
    together = numbers(5, 900, 7).uniform(1, 64)
    assert np.array_equal(together[1:2], numbers(900).uniform(1, 64))
    assert np.array_equal(together[:, :10], numbers(5, 900, 7).uniform(1, 10))


@pytest.mark.parametrize(("seed", "use"), [(1, 0), (0, 1)])
def test_another_seed_or_use_is_other_numbers(seed: int, use: int) -> None:
    one, other = numbers(3, seed=0).uniform(0, 1000), numbers(3, seed=seed).uniform(use, 1000)
    assert abs(float(np.corrcoef(one[0], other[0])[0, 1])) < 0.1


def test_the_numbers_are_uniform_and_rows_independent() -> None:
    found = numbers(*range(2000)).uniform(3, 50)
    assert found.min() >= 0 and found.max() < 1
    counts, _ = np.histogram(found, bins=20, range=(0, 1))
    assert (np.abs(counts - 5000) < 5 * np.sqrt(5000)).all()
    neighbours = np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]
    places = np.corrcoef(found[:, :-1].ravel(), found[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.015 and abs(places) < 0.015


def test_the_numbers_are_the_same_on_every_machine() -> None:
    found = numbers(1, seed=2).uniform(0, 2)
    assert found.tolist() == [[0.958246685711552, 0.7152853101170054]]
