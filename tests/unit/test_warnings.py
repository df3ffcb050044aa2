"""Warnings: when they are given, how often, and the line that they name."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

import embshare
from embshare.errors import EmbshareWarning, StaleCacheWarning

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


def test_a_cache_that_was_overtaken_names_the_callers_line() -> None:
    shared = model()
    with embshare.cached(shared):
        shared(IDS)
        with torch.no_grad():
            shared.get_parameter("0.weight").mul_(2)
        (warning,) = given(lambda _: shared(IDS), 1)
    assert warning.category is StaleCacheWarning and warning.filename == __file__
