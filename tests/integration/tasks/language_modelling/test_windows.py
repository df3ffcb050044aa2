"""Windows: each token is predicted once, with the promised context."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embshare.tasks.language_modelling.data import Windows


@given(
    count=st.integers(1, 60),
    length=st.integers(1, 12),
    stride=st.integers(1, 12),
)
def test_every_token_is_predicted_exactly_once(count: int, length: int, stride: int) -> None:
    stride = min(stride, length)
    tokens = torch.arange(100, 100 + count, dtype=torch.int32)
    rows = Windows(tokens, start=7, length=length, stride=stride)
    predicted = [
        label
        for row in (rows[index] for index in range(len(rows)))
        for label in row["labels"][1:].tolist()
        if label != -100
    ]
    assert predicted == tokens.tolist()
    assert all(len(rows[index]["input_ids"]) == length + 1 for index in range(len(rows)))


@given(count=st.integers(1, 60), length=st.integers(1, 12), stride=st.integers(1, 12))
def test_what_is_predicted_was_seen_with_enough_before_it(
    count: int, length: int, stride: int
) -> None:
    stride = min(stride, length)
    rows = Windows(torch.arange(100, 100 + count), start=7, length=length, stride=stride)
    for index in range(len(rows)):
        ids, labels = rows[index]["input_ids"].tolist(), rows[index]["labels"].tolist()
        for place, label in enumerate(labels):
            if label == -100:
                continue
            assert ids[place] == label
            assert place >= min(length - stride + 1, label - 100 + 1)


def test_windows_can_be_read_off() -> None:
    rows = Windows(torch.tensor([1, 2, 3, 4, 5]), start=9, length=3, stride=2)
    assert len(rows) == 2
    assert rows[0]["input_ids"].tolist() == [9, 1, 2, 3]
    assert rows[0]["labels"].tolist() == [-100, 1, 2, 3]
    assert rows[1]["input_ids"].tolist() == [2, 3, 4, 5]
    assert rows[1]["labels"].tolist() == [-100, -100, 4, 5]
    with pytest.raises(IndexError):
        rows[2]


def test_a_stride_that_would_leave_tokens_out_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^`stride` must be from 1 to 3, but is 4 instead\.$"):
        Windows(torch.tensor([1]), start=0, length=3, stride=4)
    with pytest.raises(ValueError, match=r"^`tokens` must hold at least one token"):
        Windows(torch.tensor([], dtype=torch.int32), start=0, length=3, stride=3)
