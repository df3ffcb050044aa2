"""Errors say the same in another process, whatever they were made from."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from embshare.errors import EmbshareError, InvalidValueError, NoSourceError
from embshare.tasks.changing import FixedSettingError
from embshare.tasks.errors import DataError

EXAMPLES = [
    InvalidValueError(what="config", faults=["`a` is not a number", "`b` is none"]),
    NoSourceError(source="table", model="BertModel", found=["embedding"]),
    FixedSettingError(changed={"width": (96, 64)}),
    DataError(Path("a.tsv"), 3, needs="be UTF-8", has="is not", hint="Do."),
]


@pytest.mark.parametrize("again", [lambda it: pickle.loads(pickle.dumps(it)), copy.copy])
@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_elsewhere(
    error: EmbshareError, again: Callable[[EmbshareError], EmbshareError]
) -> None:
    error.add_note("in config.yaml")
    found = again(error)
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)
    assert found.__notes__ == error.__notes__
