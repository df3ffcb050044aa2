"""Batches of rows: padding, masks, order, and that every row is seen."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.tasks.batching import RowBatches
from embshare.tasks.text.rows import Pad, make_feed, outputs

ROWS: list[dict[str, Any]] = [
    {"input_ids": list(range(5, 5 + n)), "token_type_ids": [1] * n, "labels": n / 2}
    for n in (3, 1, 4, 1, 5, 9, 2, 6)
]


def test_rows_are_padded_to_the_longest() -> None:
    batch = Pad(2)(ROWS[:3])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 2], [5, 2, 2, 2], [5, 6, 7, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist() == [1.5, 0.5, 2.0]
    assert batch["labels"].dtype is torch.float32


class Length(nn.Module):
    """Counts the real tokens of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return {"logits": (self.weight * attention_mask).sum(dim=1)}


def test_what_a_model_says_is_given_to_its_row() -> None:
    rows = [{"input_ids": row["input_ids"]} for row in ROWS]
    model = Length().train()
    found = dict(outputs(model, rows, 0, batch_size=3, each=lambda out: (out["logits"],)))
    assert [int(found[index][0]) for index in range(8)] == [3, 1, 4, 1, 5, 9, 2, 6]
    assert not model.training


def test_an_epoch_has_every_row_once_and_another_order_the_next_time() -> None:
    batches = RowBatches([len(row["input_ids"]) for row in ROWS], rows=3, seed=1)
    first = list(batches)
    assert sorted(index for batch in first for index in batch) == list(range(8))
    assert sorted(map(len, first)) == [2, 3, 3]
    assert len(batches) == 3
    assert list(batches) == first
    batches.set_epoch(2)
    assert list(batches) != first


def test_rows_of_one_length_are_together() -> None:
    lengths = [index % 50 + 1 for index in range(5_000)]
    batches = list(RowBatches(lengths, rows=20, seed=0))
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.05 * sum(lengths)


def test_every_process_gets_as_many_batches() -> None:
    assert len(RowBatches([1] * 50, rows=10, seed=0, processes=2)) == 4
    with pytest.raises(InvalidValueError, match="5 rows give fewer batches of 10 than 2 processes"):
        RowBatches([1] * 5, rows=10, seed=0, processes=2)


def test_a_feed_has_its_rows_and_batches() -> None:
    feed = make_feed(ROWS, 0, batch_size=4, processes=1)
    assert feed.batches is not None and feed.collate is not None
    (first, _) = feed.batches(3)
    assert feed.collate([feed.rows[index] for index in first])["labels"].shape == (4,)
