"""Windows over passages, places of answers, and the way back to text."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from embshare.tasks.squad.config import SquadConfig
from embshare.tasks.squad.data import Question
from embshare.tasks.squad.processor import Window, _question, best_answers, make_windows, scores_of
from embshare.tasks.text.tokenizer import TextTokenizer

WORDS = " ".join(f"word{index}" for index in range(40))
PASSAGE = f"{WORDS} Anna lives in São Paulo, Brazil. {WORDS}"
TOKENIZER = TextTokenizer.learn([PASSAGE.lower(), "Where does Anna live ?"] * 4, 500)


def config(**fields: Any) -> SquadConfig:
    return SquadConfig(**{"length": 32, "stride": 8, "question_length": 12, **fields})


def ask(answer: str | None, question: str = "Where does Anna live ?") -> Question:
    answers = () if answer is None else (answer,)
    start = None if answer is None else PASSAGE.index(answer)
    return Question(id="q", question=question, passage=PASSAGE, answers=answers, start=start)


def cut(question: Question, **fields: Any) -> list[Window]:
    return list(make_windows(TOKENIZER, [question], config(**fields)))


def test_windows_overlap_and_cover_the_passage() -> None:
    windows = cut(ask("Brazil"))
    assert len(windows) > 3
    assert all(len(window.ids) <= 32 for window in windows)
    starts = [next(place for place in window.places if place)[0] for window in windows]
    assert starts == sorted(set(starts))
    covered = set()
    for window in windows:
        covered |= {c for place in window.places if place for c in range(*place)}
    assert covered == set(range(len(PASSAGE))) - {
        index for index, letter in enumerate(PASSAGE) if letter == " " and index not in covered
    }
    places = [[p for p in window.places if p] for window in windows]
    step = places[0].index(places[1][0])
    assert step == 8


def test_a_long_question_is_cut_and_costs_no_more() -> None:
    long = ask("Brazil", "Where does Anna live ? " * 500)
    cut_off, short = cut(long), cut(ask("Brazil", "Where does Anna live ? " * 5))
    asked = TOKENIZER.fast.backend_tokenizer.encode(long.question, add_special_tokens=False)
    assert cut_off[0].ids[1:13] == asked.ids[:12]
    assert [window.ids for window in cut_off] == [window.ids for window in short]
    question = _question(TOKENIZER.fast.backend_tokenizer, long.question, 12)
    assert (len(question.ids), len(question.overflowing)) == (12, 0)


def test_a_window_is_what_the_tokenizer_makes_of_two_sentences() -> None:
    question = Question(id="q", question="Where ?", passage="In Rome .", answers=())
    (window,) = make_windows(TOKENIZER, [question], config())
    (row,) = TOKENIZER.encode([("Where ?", "In Rome .")], length=32, kinds=True)
    assert window.inputs(kinds=True) == row
    assert set(window.inputs(kinds=False)) == {"input_ids"}


@pytest.mark.parametrize("answer", ["São Paulo", "Brazil", "word0", "Anna lives", "ord3"])
def test_an_answer_is_found_where_it_is_whole_and_nowhere_else(answer: str) -> None:
    question = ask(answer)
    whole = 0
    for window in cut(question):
        first, last = window.span(question)
        places = [place for place in window.places if place]
        assert question.start is not None
        inside = places[0][0] <= question.start
        inside &= question.start + len(answer) <= places[-1][1]
        assert inside == ((first, last) != (0, 0))
        if inside:
            begin, end = window.places[first], window.places[last]
            assert begin and end
            assert answer in PASSAGE[begin[0] : end[1]]
            assert len(PASSAGE[begin[0] : end[1]].strip()) <= len(answer) + 8
            whole += 1
    assert whole


def test_no_answer_is_at_the_first_token() -> None:
    assert {window.span(ask(None)) for window in cut(ask(None))} == {(0, 0)}


def test_a_long_question_is_cut() -> None:
    windows = cut(ask("Brazil", question=WORDS))
    assert all(len(window.ids) <= 32 for window in windows)
    assert windows[0].kinds.index(1) == 14


def sharp(window: Window, first: int, last: int, height: float = 9.0) -> tuple[Tensor, Tensor]:
    scores = torch.zeros(2, len(window.ids) + 3)  # padded, as in a batch
    scores[0, first], scores[1, last] = height, height
    return scores[0], scores[1]


def test_the_best_span_of_all_windows_is_the_answer() -> None:
    question = ask("São Paulo")
    parts = []
    for window in cut(question):
        first, last = window.span(question)
        height = 9.0 if first else 1.0
        parts.append((window, sharp(window, first, last, height)))
    found = best_answers(PASSAGE, parts, config())
    assert found.candidates[0].text == "São Paulo"
    assert found.candidates[0].score == 18
    assert found.text(None) == found.text(0.0) == "São Paulo"
    assert found.null_odds == -18  # a window without the answer gives 2, one with it 0
    assert found.text(-20.0) == ""
    assert len({candidate.text for candidate in found.candidates}) == len(found.candidates) <= 20
    assert sum(found.probabilities()) == pytest.approx(1)


def test_spans_are_in_order_in_the_passage_and_not_too_long() -> None:
    (window, *_) = cut(ask("Brazil"))
    first = window.kinds.index(1)
    backwards = best_answers(PASSAGE, [(window, sharp(window, first + 5, first))], config())
    assert all(candidate.score <= 9 for candidate in backwards.candidates)
    long = best_answers(
        PASSAGE, [(window, sharp(window, first, first + 4))], config(answer_length=4)
    )
    assert all(candidate.score <= 9 for candidate in long.candidates)
    question = best_answers(PASSAGE, [(window, sharp(window, 1, 2))], config())
    assert question.candidates[0].score == 0


def test_odds_without_any_answer_are_a_number_of_json() -> None:
    question = Question(id="q", question="?", passage="", answers=())
    (window, *_) = make_windows(TOKENIZER, [question], config())
    found = best_answers("", [(window, sharp(window, 0, 0))], config())
    assert (found.candidates, found.best, found.text(0.0)) == ((), "", "")
    assert found.null_odds > 1e8
    json.dumps(found.null_odds, allow_nan=False)


def test_a_model_that_follows_starts_is_understood() -> None:
    (window, *_) = cut(ask("Brazil"))
    first, length = window.kinds.index(1), len(window.ids)
    starts, ends = torch.zeros(length), torch.zeros(2, length)
    starts[first] = 3.0
    ends[0, first + 1] = 4.0
    followed = torch.tensor([first, length + 5])  # the second is in the padding
    found = best_answers(PASSAGE, [(window, (starts, ends, followed, torch.tensor(2.5)))], config())
    assert found.candidates[0].score == 7
    assert found.null_odds == 2.5
    output = type("Output", (), {"starts": followed, "start_logits": 1, "end_logits": 2})()
    output.impossible_logits = 3
    assert len(scores_of(output)) == 4
    assert scores_of(output)[2] is followed
