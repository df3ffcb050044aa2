"""Batches of similar numbers of tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embshare.errors import InvalidValueError
from embshare.tasks.batching import TokenBatches

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=200)


@given(
    lengths=LENGTHS, tokens=st.integers(40, 400), seed=st.integers(0, 9), epoch=st.integers(0, 5)
)
def test_every_row_is_in_one_batch_and_no_batch_is_too_large(
    lengths: list[int], tokens: int, seed: int, epoch: int
) -> None:
    batches = TokenBatches(lengths, tokens=tokens, seed=seed)
    batches.set_epoch(epoch)
    found = list(batches)
    assert len(found) == len(batches)
    assert sorted(row for batch in found for row in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) * max(lengths[row] for row in batch) <= tokens
    assert list(batches) == found


def test_rows_of_a_batch_are_about_as_long() -> None:
    lengths = [1 + (17 * index) % 50 for index in range(1000)]
    batches = TokenBatches(lengths, tokens=500, seed=0)
    padded = sum(len(b) * max(lengths[row] for row in b) for b in batches)
    assert padded < 1.05 * sum(lengths)
    longest_first = [max(lengths[row] for row in b) for b in batches]
    assert longest_first != sorted(longest_first)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    batches = TokenBatches([1 + index % 7 for index in range(300)], tokens=40, seed=0)
    first = list(batches)
    batches.set_epoch(1)
    assert list(batches) != first
    other = TokenBatches([1 + index % 7 for index in range(300)], tokens=40, seed=1)
    assert list(other) != first
    assert batches.sampler is batches


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_no_process_waits_for_a_batch(processes: int) -> None:
    batches = TokenBatches([5] * 101, tokens=40, seed=0, processes=processes)
    assert len(list(batches)) == len(batches) == 13 - 13 % processes


@pytest.mark.parametrize(
    ("lengths", "tokens", "processes", "message"),
    [
        ([], 10, 1, "there are no rows"),
        ([3, 11], 10, 1, "a row has 11 tokens, but a batch holds 10: raise that"),
        ([3], 10, 2, "2 processes have fewer batches than that"),
    ],
)
def test_what_cannot_be_batched_is_refused(
    lengths: list[int], tokens: int, processes: int, message: str
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        TokenBatches(lengths, tokens=tokens, seed=0, processes=processes)
