"""Warnings: when they are given, how often, and the line that they name."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import nn

import embshare
from embshare.errors import EmbshareWarning, RepeatedDerivationWarning, StaleCacheWarning
from embshare.notices import Repeats

IDS = torch.arange(6)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    built = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    return embshare.share_from_embedding(built)


def given(run: Callable[[int], object], times: int) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for turn in range(times):
            run(turn)
    assert all(issubclass(each.category, EmbshareWarning) for each in caught)
    return caught


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_loop_that_derives_the_same_weights_is_told_once(
    mode: Callable[[], AbstractContextManager[object]],
) -> None:
    shared = model()
    with mode():
        assert not given(lambda _: shared(IDS), Repeats.LIMIT - 1)
        (told,) = given(lambda _: shared(IDS), 3 * Repeats.LIMIT)
    assert told.category is RepeatedDerivationWarning and told.filename == __file__
    assert f"{Repeats.LIMIT} calls in a row" in str(told.message)
    assert "with embshare.cached(model)" in str(told.message)
    twin = copy.deepcopy(shared)  # counts for itself
    with torch.no_grad():
        assert len(given(lambda _: twin(IDS), Repeats.LIMIT)) == 1


def test_what_it_advises_ends_it() -> None:
    shared = model()
    with torch.no_grad(), embshare.cached(shared):
        assert not given(lambda _: shared(IDS), 2 * Repeats.LIMIT)


def test_weights_that_are_read_outside_of_calls_are_not_told() -> None:
    """As loaders do that ask each layer for its weight."""
    shared = model()
    with torch.no_grad():
        assert not given(lambda _: shared.get_submodule("1").weight, 2 * Repeats.LIMIT)


def test_training_and_evaluations_between_its_steps_are_not_told() -> None:
    shared = model()
    optimizer = torch.optim.SGD(shared.parameters(), lr=0.1)

    def step(_: int) -> None:
        shared(IDS).sum().backward()
        optimizer.step()
        with torch.no_grad():
            shared(IDS)

    assert not given(step, 2 * Repeats.LIMIT)
    assert not given(lambda _: shared(IDS), 2 * Repeats.LIMIT)


def test_a_cache_that_was_overtaken_names_the_callers_line() -> None:
    shared = model()
    with embshare.cached(shared):
        shared(IDS)
        with torch.no_grad():
            shared.get_parameter("0.weight").mul_(2)
        (told,) = given(lambda _: shared(IDS), 1)
    assert told.category is StaleCacheWarning and told.filename == __file__
