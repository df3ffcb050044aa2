"""Beam search against an exhaustive search, and against greedy decoding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from embshare.errors import InvalidValueError
from embshare.tasks.decoding import Beam, NoFiniteScoreError, beam_search, greedy_search, sample
from embshare.tasks.decoding.beam import best_candidates
from tests.integration.tasks.decoding.conftest import END, FIRST, Table

LIMITS = [5, 1, 3, 4]


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_that_holds_all_finds_the_best_of_all(penalty: float, seed: int) -> None:
    table = Table(len(LIMITS), seed=seed)
    beam = Beam(width=64, length_penalty=penalty, keep=3)
    found = beam_search(table, table.start(), limits=LIMITS, first=FIRST, end=END, beam=beam)
    for source, (limit, hypotheses) in enumerate(zip(LIMITS, found, strict=True)):
        every = table.every_sequence(source, limit)
        scores = {s: p / (len(s) + 1) ** penalty for s, p in every.items()}
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:3]
        assert [h.tokens for h in hypotheses] == best
        for hypothesis in hypotheses:
            assert hypothesis.log_prob == pytest.approx(every[hypothesis.tokens], rel=1e-5)
            assert hypothesis.score == pytest.approx(scores[hypothesis.tokens], rel=1e-5)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_stopping_early_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, penalty: float, width: int
) -> None:
    """Against the same search when each row is continued to its limit."""
    from embshare.tasks.decoding import beam as module

    def search() -> tuple[list[list[tuple[int, ...]]], int]:
        table = Table(30, seed=7, scale=2.5)
        beam = Beam(width=width, length_penalty=penalty)
        found = beam_search(table, table.start(), limits=[7] * 30, first=FIRST, end=END, beam=beam)
        return [[h.tokens for h in row] for row in found], table.steps

    early, fewer = search()
    monkeypatch.setattr(
        module._Search,
        "_unfinished",
        lambda self, log_probs, length: [
            place
            for place, best in enumerate(log_probs[:, 0].tolist())
            if best > -torch.inf and length < 7
        ],
    )
    late, steps = search()
    assert early == late
    assert fewer <= steps == 7


def test_a_search_does_stop_early() -> None:
    table = Table(4, seed=3, scale=6.0)
    beam = Beam(width=2, length_penalty=0.0)
    beam_search(table, table.start(), limits=[40] * 4, first=FIRST, end=END, beam=beam)
    assert table.steps < 20


def test_a_beam_of_one_without_length_penalty_is_greedy_decoding() -> None:
    table, limits = Table(20, seed=5), [6] * 20
    beam = Beam(width=1, length_penalty=0.0)
    found = beam_search(table, table.start(), limits=limits, first=FIRST, end=END, beam=beam)
    greedy = greedy_search(table, table.start(), limits=limits, first=FIRST, end=END)
    assert [row[0].tokens for row in found] == greedy
    assert len(set(map(len, greedy))) > 2


def test_rows_do_not_see_each_other() -> None:
    beam = Beam(width=3, length_penalty=1.0, keep=2)
    table = Table(6, seed=11)
    limits = [2, 6, 4, 1, 5, 3]
    whole = beam_search(table, table.start(), limits=limits, first=FIRST, end=END, beam=beam)
    for row, limit in enumerate(limits):
        alone = beam_search(
            table, table.start()[row : row + 1], limits=[limit], first=FIRST, end=END, beam=beam
        )
        assert alone == [whole[row]]


def test_candidates_are_those_of_all_hypotheses() -> None:
    log_probs = torch.tensor([[-1.0, -2.0]])
    following = torch.tensor([[[-1.0, -9.0, -3.5], [-0.5, -1.5, -8.0]]])
    found = best_candidates(log_probs, following, 4)
    assert found.log_probs.tolist() == [[-2.0, -2.5, -3.5, -4.5]]
    assert found.parents.tolist() == [[0, 1, 1, 0]]
    assert found.tokens.tolist() == [[0, 0, 1, 2]]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="`width` must be at least 1, but is 0"):
        Beam(width=0)
    with pytest.raises(InvalidValueError, match="`length_penalty` must be at least 0, but is -1"):
        Beam(length_penalty=-1)
    with pytest.raises(InvalidValueError, match="`keep` must be from 1 to `width`, but is 6"):
        Beam(width=5, keep=6)
    table = Table(2, seed=0)
    with pytest.raises(InvalidValueError, match="a limit of at least 1, but the limit of row 1 is"):
        beam_search(table, table.start(), limits=[1, 0], first=FIRST, end=END, beam=Beam())


class Diverged:
    """Non-finite scores from the second token of one row on."""

    def __init__(self, value: float) -> None:
        self._value, self._table = value, Table(3, seed=0)

    def start(self) -> torch.Tensor:
        return self._table.start()

    def step(self, tokens: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_probs, read = self._table.step(tokens, state)
        log_probs[:, END] = -50.0  # no row ends before its limit
        if read.shape[1] > 2:
            log_probs[read[:, 0] == 1, 2:] = self._value
        return log_probs, read

    def reorder(self, state: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return state[rows]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_model_that_has_diverged_is_an_error(value: float) -> None:
    model = Diverged(value)
    limits: dict[str, Any] = {"limits": [5, 5, 5], "first": FIRST, "end": END}
    with pytest.raises(NoFiniteScoreError) as caught:
        beam_search(model, model.start(), beam=Beam(width=2), **limits)
    assert "Its training has diverged" in str(caught.value)
    assert (caught.value.row, caught.value.position) == (1, 2)
    with pytest.raises(NoFiniteScoreError, match="token 2 of row 1"):
        greedy_search(model, model.start(), **limits)
    with pytest.raises(NoFiniteScoreError, match="token 2 of row 1"):
        sample(model, model.start(), generator=torch.Generator(), **limits)


def test_a_search_without_a_possible_end_is_an_error() -> None:
    table = Table(2, seed=0)
    with pytest.raises(NoFiniteScoreError, match=r"token 3 of row 0.*allow the end token"):
        beam_search(table, table.start(), limits=[3, 3], first=FIRST, end=FIRST, beam=Beam())
