"""Pairwise coverage: no pair of example, settings and question is lost."""

from __future__ import annotations

from itertools import product

import pytest

import embshare
from embshare.errors import SourceTooSmallError
from tests._support.layer_examples import CONFIGS, EXAMPLES
from tests.conformance import test_check, test_questions
from tests.conformance.cases import QUESTIONS, Both, config_of

ASKED = {
    "size": test_questions.test_parameters_are_gone_and_the_file_is_smaller,
    "rule": test_questions.test_weights_are_what_the_rule_says,
    "projections": test_questions.test_one_projection_per_outermost_call,
    "gradients": test_questions.test_gradients_are_those_of_the_plain_rule,
    "materialized": test_questions.test_materialized_weights_are_bitwise_equal_and_alias_nothing,
    "check": test_check.test_when_fresh_trained_copied_and_cast,
}


def cases_of(question: str) -> list[Both]:
    """The cases that the test of a question is parametrized with."""
    marks: list[pytest.Mark] = getattr(ASKED[question], "pytestmark")  # noqa: B009
    (cases,) = (mark.args[1] for mark in marks if mark.args[:1] == ("pair",))
    return [case.values[0] for case in cases]


def fits(pair: Both) -> bool:
    """Whether a case is asked, not skipped: EPS may have too few columns for an example."""
    try:
        embshare.plan_sharing(pair[0].build(), config_of(pair), rules=pair[0].rules)
    except SourceTooSmallError:
        return False
    return True


def test_every_pair_is_asked() -> None:
    asked = {(e.name, c, q) for q in QUESTIONS for e, c in cases_of(q)}
    examples = [example.name for example in EXAMPLES]
    assert {(e, c) for e, c, _ in asked} == set(product(examples, CONFIGS))
    assert {(e, q) for e, _, q in asked} == set(product(examples, QUESTIONS))
    assert {(c, q) for _, c, q in asked} == set(product(CONFIGS, QUESTIONS))
    assert len(asked) == 2 * len(examples) * len(QUESTIONS)


@pytest.mark.filterwarnings("ignore::embshare.errors.GrowthWarning")  # toys
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_meets_eps_with_columns_enough(question: str) -> None:
    assert any(fits(case) for case in cases_of(question) if case[1] == "eps")
