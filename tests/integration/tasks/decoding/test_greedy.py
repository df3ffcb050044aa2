"""Greedy decoding and sampling."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from embshare.errors import InvalidValueError
from embshare.tasks.decoding import greedy_search, sample
from tests.integration.tasks.decoding.conftest import END, FIRST, Table


def test_greedy_decoding_takes_the_most_probable_token_until_the_end_or_the_limit() -> None:
    table, limits = Table(12, seed=1), [5, 2, 1, 6] * 3
    found = greedy_search(table, table.start(), limits=limits, first=FIRST, end=END)
    for source, (limit, tokens) in enumerate(zip(limits, found, strict=True)):
        read: list[int] = [source, FIRST]
        for token in tokens:
            assert token == int(table.log_probs(read).argmax())
            read.append(token)
        assert len(tokens) == limit - 1 or int(table.log_probs(read).argmax()) == END


def test_sampling_follows_the_probabilities() -> None:
    table, draws = Table(1, seed=2), 4000
    start = table.start().expand(draws, 1)
    random = torch.Generator().manual_seed(0)
    found = sample(
        table, start, limits=[3] * draws, first=FIRST, end=END, generator=random, temperature=2.0
    )
    first = Counter(tokens[0] if tokens else END for tokens in found)
    expected = (table.log_probs([0, FIRST]) / 2).softmax(dim=-1)
    for token, share in enumerate(expected.tolist()):
        assert first[token] / draws == pytest.approx(share, abs=0.03)


def test_sampling_is_reproducible_and_of_one_token_greedy() -> None:
    table, limits = Table(9, seed=4), [6] * 9

    def draw(seed: int, among: int | None) -> list[tuple[int, ...]]:
        random = torch.Generator().manual_seed(seed)
        return sample(
            table,
            table.start(),
            limits=limits,
            first=FIRST,
            end=END,
            generator=random,
            among=among,
        )

    greedy = greedy_search(table, table.start(), limits=limits, first=FIRST, end=END)
    assert draw(0, None) == draw(0, None) != draw(1, None)
    assert draw(0, 1) == greedy


def test_settings_that_sample_nothing_are_refused() -> None:
    table, random = Table(1, seed=0), torch.Generator()
    with pytest.raises(InvalidValueError, match=r"`temperature` must be above 0.*`among` must be"):
        sample(
            table,
            table.start(),
            limits=[2],
            first=FIRST,
            end=END,
            generator=random,
            temperature=0.0,
            among=0,
        )
