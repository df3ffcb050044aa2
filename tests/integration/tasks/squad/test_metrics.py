"""The official metrics: by hand, and against transformers' own version of the script."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import pytest

from embshare.tasks.squad.data import Question
from embshare.tasks.squad.metrics import exact_match, f1, normalise, score


def question(name: str, *answers: str) -> Question:
    return Question(id=name, question="?", passage="", answers=answers)


def test_texts_are_normalised() -> None:
    assert normalise("  The Cat's, a   HAT ") == "cats hat"
    assert normalise("another theatre") == "another theatre"


@pytest.mark.parametrize(
    ("answer", "truth", "exact", "fuzzy"),
    [
        ("the Rome", "Rome.", 1, 1),
        ("in Rome", "Rome", 0, 2 / 3),
        ("Paris", "Rome", 0, 0),
        ("cat cat dog", "cat dog dog", 0, 2 / 3),
        ("", "", 1, 1),
        ("", "Rome", 0, 0),
        ("the", "", 1, 1),
    ],
)
def test_by_hand(answer: str, truth: str, exact: float, fuzzy: float) -> None:
    assert exact_match(answer, truth) == exact
    assert f1(answer, truth) == pytest.approx(fuzzy)


def test_of_several_answers_the_nearest_counts() -> None:
    rows = [question("a", "Rome", "the city of Rome"), question("b", "1912")]
    found = score(rows, {"a": "city of Rome", "b": "in 1912"})
    assert found == {"exact_match": 50, "f1": pytest.approx(100 * (1 + 2 / 3) / 2)}


def test_questions_of_both_kinds_and_thresholds_by_hand() -> None:
    rows = [question("a", "Rome"), question("b"), question("c", "Oslo"), question("d")]
    answers = {"a": "Rome", "b": "Rome", "c": "Oslo", "d": ""}
    found = score(rows, answers, {"a": -3.0, "b": 1.0, "c": -1.0, "d": 5.0})
    assert found["exact_match"] == 75
    assert found["answerable_f1"] == 100
    assert found["unanswerable_exact_match"] == 50
    assert found["best_exact_match"] == 100
    assert found["best_exact_match_threshold"] == -1


def test_the_best_threshold_is_looked_for_among_answers_that_another_one_emptied() -> None:
    rows = [question(str(n), *(("cat",) if n < 6 else ())) for n in range(10)]
    odds = {row.id: 1.0 if row.answers else 5.0 for row in rows}
    emptied, best = ({row.id: text for row in rows} for text in ("", "cat"))
    found = score(rows, emptied, odds, best)
    assert (found["f1"], found["answerable_f1"]) == (40, 0)
    assert (found["best_f1"], found["best_f1_threshold"]) == (100, 1)
    assert found["best_exact_match"] == 100
    assert score(rows, best, odds)["best_f1"] == 100


OFFICIAL = {
    "exact_match": 51.0,
    "f1": 54.17777777777778,
    "best_exact_match": 49.666666666666664,
    "best_f1": 52.844444444444456,
    "best_exact_match_threshold": 4.979193230029926,
    "best_f1_threshold": 4.979193230029926,
    "answerable_f1": 55.70300157977884,
    "unanswerable_f1": 50.561797752808985,
}
"""Of the answers below, by ``squad_evaluate`` of transformers 4.57.1, without a threshold."""


def some_answers() -> tuple[list[Question], dict[str, str], dict[str, float]]:
    rng = random.Random(7)
    words = ["the", "a", "Rome", "rome.", "city", "of", "New", "York", "1912", "-"]

    def some(most: int) -> str:
        return " ".join(rng.choice(words) for _ in range(rng.randint(1, most)))

    rows = [question(str(n), *(some(3) for _ in range(rng.randint(0, 3)))) for n in range(300)]
    answers = {row.id: rng.choice(["", some(3), *row.answers]) for row in rows}
    return rows, answers, {row.id: rng.uniform(-5, 5) for row in rows}


def test_it_is_what_the_official_code_computes() -> None:
    found = score(*some_answers())
    for name, value in OFFICIAL.items():
        assert found[name] == pytest.approx(value), name


def test_it_is_what_transformers_computes_where_it_still_does() -> None:
    reason = "transformers 5 has no metrics any more"
    module = pytest.importorskip("transformers.data.metrics.squad_metrics", reason=reason)
    rows, answers, odds = some_answers()
    examples = [
        SimpleNamespace(qas_id=row.id, answers=[{"text": text} for text in row.answers])
        for row in rows
    ]
    theirs = module.squad_evaluate(examples, answers, odds, math.inf)
    assert theirs["f1"] == pytest.approx(OFFICIAL["f1"])
    assert theirs["best_exact"] == pytest.approx(OFFICIAL["best_exact_match"])
