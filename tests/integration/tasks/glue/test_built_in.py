"""The built-in data: the same on every machine, two sets apart, labels that are true."""

from collections import Counter
from typing import Any, get_args

import pytest

from embshare.tasks.glue.built_in import MAKERS, built_in
from embshare.tasks.glue.config import BUILT_IN, GlueConfig, GlueName
from embshare.tasks.glue.data import TASKS
from embshare.tasks.glue.task import Glue, fingerprint

FINGERPRINTS = {
    "cola": "0fd06af36b7a1d78",
    "sst2": "0d13650842d8a984",
    "mrpc": "cb683209d6ca59a6",
    "stsb": "5cdfb3157f34aba8",
    "rte": "69e09fdbdde628a6",
}


def test_the_settings_know_what_is_built_in() -> None:
    assert tuple(MAKERS) == BUILT_IN
    assert tuple(TASKS) == get_args(GlueName)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_two_sets_are_apart_and_balanced(name: Any) -> None:
    data = built_in(name)
    (dev,) = data.dev.values()
    assert (len(data.train), len(dev)) == (4_000, 800)
    assert not {row.texts for row in data.train} & {row.texts for row in dev}
    counts = Counter(row.label for row in data.train)
    assert set(counts) == (set(map(float, range(6))) if name == "stsb" else {0, 1})
    assert max(counts.values()) < 1.2 * min(counts.values())


@pytest.mark.parametrize("name", BUILT_IN)
def test_they_are_always_the_same(name: Any) -> None:
    data = built_in(name)
    (dev,) = data.dev.values()
    assert fingerprint([*data.train, *dev]) == FINGERPRINTS[name]


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_eps_table_of_the_default_width_is_large_enough(name: Any) -> None:
    described = Glue(GlueConfig(name=name)).prepare().describe()
    assert described["vocabulary"] > 1_250  # type: ignore[operator]


def test_what_follows_follows() -> None:
    rows = {row.texts: row.label for row in built_in("rte").train}
    assert TASKS["rte"].labels == ("entailment", "not_entailment")
    seen = set()
    for (premise, hypothesis), label in rows.items():
        first, second = premise.split(), hypothesis.split()
        if first[0] == second[0] == "all" and first[2:] == second[1:]:
            assert label == 1, "what holds of the old ones need not hold of all"
            seen.add(1)
        if first[0] == second[0] == "some" and first[2:] == second[1:]:
            assert label == 0, "some old ones are some"
            seen.add(0)
    assert seen == {0, 1}


def test_broken_sentences_are_broken() -> None:
    singular = ("this", "that", "every", "a", "an")
    for row in built_in("cola").train:
        words = row.texts[0].split()
        if row.label == 1 and words[0] in singular and words[1] in ("dogs", "farmers", "men"):
            raise AssertionError(row)
