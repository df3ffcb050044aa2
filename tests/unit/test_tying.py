"""Roles, and the tie policies against the tables of Takase & Kiyono (2021)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from embshare.plan.tying import role_of, slot_numbers


@pytest.mark.parametrize(
    ("tie", "layers", "numbers"),
    [
        ("none", 4, [0, 1, 2, 3]),
        ("all", 4, [0, 0, 0, 0]),
        ("sequence:3", 6, [0, 0, 1, 1, 2, 2]),
        ("cycle:3", 6, [0, 1, 2, 0, 1, 2]),
        ("cycle_rev:3", 6, [0, 1, 2, 2, 1, 0]),
        ("cycle_rev:3", 9, [0, 1, 2, 0, 1, 2, 2, 1, 0]),
        ("cycle_rev:3", 3, [0, 1, 2]),
        ("sequence:9", 3, [0, 1, 2]),
    ],
)
def test_the_published_tables(tie: str, layers: int, numbers: list[int]) -> None:
    assert slot_numbers(tie, layers) == numbers


@given(
    kind=st.sampled_from(["sequence", "cycle", "cycle_rev"]),
    distinct=st.integers(1, 12),
    layers=st.integers(1, 40),
)
def test_as_many_slots_as_asked_for(kind: str, distinct: int, layers: int) -> None:
    numbers = slot_numbers(f"{kind}:{distinct}", layers)
    assert len(numbers) == layers
    assert set(numbers) == set(range(min(distinct, layers)))
    if kind == "sequence":
        assert numbers == sorted(numbers)


def test_only_repetition_is_abstracted() -> None:
    model = nn.ModuleDict(
        {"3": nn.Linear(2, 2), "blocks": nn.ModuleList([nn.Sequential(nn.Linear(2, 2))])}
    )
    assert role_of(model, "3.weight") == "3.weight", "a key of a dict is a name"
    assert role_of(model, "blocks.0.0.weight") == "blocks.*.*.weight"


def test_stacked_recurrent_layers_are_repetitions() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(2, 2, 2, bidirectional=True)})
    assert role_of(model, "rnn.weight_hh_l1_reverse") == "rnn.weight_hh_l*_reverse"
    assert role_of(model, "rnn.weight_ih_l0") == "rnn.weight_ih_l*"
