"""The official metrics of SQuAD 1.1 and 2.0.

Source:
    Rajpurkar et al. 2016, section 6.1, and 2018; the definitions of evaluate-v1.1.py and
    evaluate-v2.0.py.
"""

from __future__ import annotations

import re
import statistics
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from embshare.tasks.squad.data import Question

__all__ = ["exact_match", "f1", "normalise", "score"]

ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
PUNCTUATION: Final = frozenset(string.punctuation)


def normalise(text: str) -> str:
    """Lower-case a text and drop punctuation, articles and superfluous spaces."""
    bare = "".join(letter for letter in text.lower() if letter not in PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", bare).split())


def exact_match(answer: str, truth: str) -> float:
    """Return 1 where both are the same when normalised."""
    return float(normalise(answer) == normalise(truth))


def f1(answer: str, truth: str) -> float:
    """F1 of the words of both; where one has none, 1 if neither has."""
    given, wanted = normalise(answer).split(), normalise(truth).split()
    if not given or not wanted:
        return float(given == wanted)
    same = sum((Counter(given) & Counter(wanted)).values())
    return 2 * same / (len(given) + len(wanted))


def score(
    questions: Sequence[Question],
    answers: Mapping[str, str],
    null_odds: Mapping[str, float] | None = None,
    best_answers: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Compute percentages over all questions.

    Args:
        questions: with what people answered; of several the nearest counts.
        answers: predictions by the question's id; empty where none is given.
        null_odds: no-answer scores by id, for 2.0; they ask for the metrics of its two kinds of
            questions too, and for the best that a threshold could give.
        best_answers: predictions by id before a threshold emptied any, for those best thresholds;
            ``None`` where none did.
    """
    exact, fuzzy = (_each(questions, answers, metric) for metric in (exact_match, f1))
    found = {"exact_match": _mean(exact.values()), "f1": _mean(fuzzy.values())}
    if null_odds is None:
        return found
    answered = {question.id for question in questions if question.answers}
    for kind, wanted in (("answerable", True), ("unanswerable", False)):
        ids = [question.id for question in questions if (question.id in answered) is wanted]
        if ids:
            found[f"{kind}_exact_match"] = _mean([exact[name] for name in ids])
            found[f"{kind}_f1"] = _mean([fuzzy[name] for name in ids])
    given = answers if best_answers is None else best_answers
    for name, metric in (("exact_match", exact_match), ("f1", f1)):
        scores = _each(questions, given, metric)
        best, threshold = _best(scores, given, null_odds, answered)
        found |= {f"best_{name}": best, f"best_{name}_threshold": threshold}
    return found


def _each(
    questions: Sequence[Question], answers: Mapping[str, str], metric: Callable[[str, str], float]
) -> dict[str, float]:
    return {
        question.id: max(metric(answers[question.id], truth) for truth in _truths(question))
        for question in questions
    }


def _truths(question: Question) -> tuple[str, ...]:
    """Answers of people, without what normalises to nothing; one empty answer for none."""
    return tuple(text for text in question.answers if normalise(text)) or ("",)


def _mean(values: Iterable[float]) -> float:
    return 100 * statistics.fmean(values)


def _best(
    scores: Mapping[str, float],
    answers: Mapping[str, str],
    null_odds: Mapping[str, float],
    answered: set[str],
) -> tuple[float, float]:
    """The highest score that a threshold on the odds gives, and the threshold."""
    now = best = float(len(scores) - len(answered))
    threshold = 0.0
    for name in sorted(scores, key=null_odds.__getitem__):
        now += scores[name] if name in answered else -float(bool(answers[name]))
        if now > best:
            best, threshold = now, null_odds[name]
    return 100 * best / len(scores), threshold
