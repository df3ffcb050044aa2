"""Weights that are kept inside of a block."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import embshare
from embshare.errors import StaleCacheWarning
from embshare.runtime.bank import require_bank


def model() -> nn.Sequential:
    torch.manual_seed(0)
    built = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    return embshare.share_from_embedding(built)


IDS = torch.arange(6)


def test_blocks_nest_and_derive_once() -> None:
    shared = model()
    bank = require_bank(shared)
    wanted, before = shared(IDS), bank.evaluations
    with torch.no_grad(), embshare.cached(shared):
        for _ in range(3):
            with embshare.cached(shared):
                torch.testing.assert_close(shared(IDS), wanted, rtol=0, atol=0)
    assert bank.evaluations == before + 1
    shared(IDS)
    assert bank.evaluations == before + 2


def test_nothing_is_kept_after_an_exception() -> None:
    shared = model()
    with pytest.raises(KeyError), embshare.cached(shared):
        shared(IDS)
        raise KeyError
    with torch.no_grad():
        shared.get_parameter("0.weight").data.mul_(2)  # what no version counter sees
    before = require_bank(shared).evaluations
    shared(IDS)
    assert require_bank(shared).evaluations == before + 1


def test_a_step_inside_is_noticed_and_said_once() -> None:
    shared = model()
    with embshare.cached(shared):
        old = shared(IDS)
        with torch.no_grad():
            shared.get_parameter("0.weight").mul_(2)
        with pytest.warns(StaleCacheWarning, match=r"derived again\. Leave the block"):
            new = shared(IDS)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            torch.testing.assert_close(shared(IDS), new, rtol=0, atol=0)
    assert not torch.allclose(old, new)
    torch.testing.assert_close(shared(IDS), new, rtol=0, atol=0)


def test_training_inside_is_right() -> None:
    """Two backwards through weights that were derived once."""
    kept, plain = model(), model()
    with embshare.cached(kept):
        for _ in range(2):
            kept(IDS).square().sum().backward()
            plain(IDS).square().sum().backward()
    for ours, theirs in zip(kept.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_dense_model_is_accepted() -> None:
    with embshare.cached(nn.Linear(2, 2)) as nothing:
        assert nothing is None
