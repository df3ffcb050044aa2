"""Geometry of tables against slow references."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]
from torch import Tensor

from embshare.tasks.studies.reporting.embeddings import token_counts
from embshare.tasks.studies.reporting.geometry import (
    isotropy,
    mean_cosine,
    neighbours_kept,
    norms_against_frequency,
)


@st.composite
def tables(draw: st.DrawFn) -> Tensor:
    """Normal rows, some of them with a common direction."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    shape = draw(st.integers(3, 20)), draw(st.integers(2, 6))
    return torch.randn(shape, generator=generator) + draw(st.sampled_from([0.0, 1.0, 3.0]))


@given(tables())
def test_isotropy_is_the_ratio_of_the_partition_function(table: Tensor) -> None:
    rows = table.double()
    _, _, directions = torch.linalg.svd(rows)  # the same directions, another way
    sums = [
        sum(math.exp(float(sign * row @ direction)) for row in rows)
        for direction in directions
        for sign in (1, -1)
    ]
    assert isotropy(table) == pytest.approx(min(sums) / max(sums), rel=1e-6)


def test_isotropy_is_one_for_all_directions_and_small_for_one() -> None:
    square = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    assert isotropy(square) == pytest.approx(1)
    assert isotropy(square + 5) < 1e-3
    assert isotropy(torch.full((9, 2), 2000.0)) == 0, "large values do not overflow"


@given(tables())
def test_the_mean_cosine_is_over_all_pairs(table: Tensor) -> None:
    cosines = [
        float(torch.cosine_similarity(one.double(), other.double(), dim=0))
        for n, one in enumerate(table)
        for m, other in enumerate(table)
        if n != m
    ]
    assert mean_cosine(table) == pytest.approx(sum(cosines) / len(cosines), abs=1e-9)
    padded = torch.cat((torch.zeros(1, table.shape[1]), table))
    assert mean_cosine(padded) == pytest.approx(mean_cosine(table))


def test_one_row_has_no_mean_cosine() -> None:
    assert math.isnan(mean_cosine(torch.ones(1, 3)))


@given(tables(), tables(), st.integers(1, 5))
def test_neighbours_are_those_of_a_sort(one: Tensor, other: Tensor, k: int) -> None:
    rows = min(len(one), len(other))
    one, other, tokens = one[:rows], other[:rows], torch.arange(0, rows, 2)
    k = min(k, rows - 1)

    def nearest(table: Tensor, token: int) -> set[int]:
        cosines = torch.cosine_similarity(table[token][None], table)
        return set(sorted((n for n in range(rows) if n != token), key=lambda n: -cosines[n])[:k])

    kept = [len(nearest(one, t) & nearest(other, t)) / k for t in tokens.tolist()]
    assert neighbours_kept(one, other, tokens, k=k) == pytest.approx(sum(kept) / len(kept))
    assert neighbours_kept(one, one * 3, tokens, k=k) == 1


@given(tables(), st.data())
def test_norms_are_ranked_as_scipy_ranks_them(table: Tensor, data: st.DataObject) -> None:
    counts = data.draw(
        st.lists(st.integers(0, 5), min_size=len(table), max_size=len(table)).filter(
            lambda found: len(set(found)) > 1
        )
    )
    expected = stats.spearmanr(table.double().norm(dim=1).numpy(), counts).statistic
    found = norms_against_frequency(table, torch.tensor(counts))
    assert found == pytest.approx(expected, abs=1e-9)


def test_tokens_are_counted_in_labels_or_inputs() -> None:
    labels = {"input_ids": torch.tensor([[7]]), "labels": torch.tensor([[1, 2, -100, 2]])}
    found = token_counts([labels, labels], 8)
    assert found is not None and found.tolist() == [0, 2, 4, 0, 0, 0, 0, 0]
    classes = {
        "input_ids": torch.tensor([[3, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 0]]),
        "labels": torch.tensor([1]),
    }
    found = token_counts([classes], 4)
    assert found is not None and found.tolist() == [0, 0, 0, 2]
    assert token_counts([labels], 2) is None, "another vocabulary"
    assert token_counts([{"pixels": torch.zeros(1)}], 2) is None
    assert token_counts([], 2) is None
