"""Rows, batches and the smoothed loss."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch

from embshare.models.matched import MatchedConfig, MatchedSeq2Seq
from embshare.models.matched.embedding import IGNORED
from embshare.tasks.translation.data import Collate, PairRows, Ragged
from embshare.tasks.translation.metrics import SmoothedLoss, nats_per_row


def pair_rows(
    source: list[list[int]], target: list[list[int]], *, longest: int | None = None
) -> PairRows:
    return PairRows(Ragged.of(source), Ragged.of(target), longest=longest)


def test_long_pairs_are_left_out_and_counted() -> None:
    rows = pair_rows([[3], [4, 5], [6, 7, 8], []], [[9, 9], [8], [7], [6]], longest=2)
    assert (len(rows), rows.too_long, rows.lengths) == (3, 1, [2, 2, 1])
    assert rows.tokens == (3, 4)
    assert [rows[i]["source"].tolist() for i in range(3)] == [[3], [4, 5], []]
    assert [rows[i]["target"].tolist() for i in range(3)] == [[9, 9], [8], [6]]
    assert len(pair_rows([[3], [4] * 99], [[9], [8]])) == 2


def test_padding_is_marked_on_both_sides() -> None:
    rows = pair_rows([[3, 4], [5]], [[6], [7, 8]])
    batch = Collate(pad=0)([rows[0], rows[1]])
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[3, 4], [5, 0]],
        "attention_mask": [[1, 1], [1, 0]],
        "labels": [[6, IGNORED], [7, 8]],
    }


def test_smoothing_is_a_mixture_with_the_uniform_distribution() -> None:
    logits, labels = torch.randn(2, 3, 7), torch.tensor([[1, 2, IGNORED], [6, 0, 3]])
    logp = logits.log_softmax(-1)
    real = [(r, t, s) for r, row in enumerate(labels.tolist()) for t, s in enumerate(row) if s >= 0]
    by_hand = -sum(0.9 * logp[r, t, s] + 0.1 * logp[r, t].mean() for r, t, s in real) / 5
    config = MatchedConfig(architecture="conv", vocab_size=7, width=16)
    model = MatchedSeq2Seq(config)
    with mock.patch.object(model, "forward", return_value={"logits": logits}):
        loss = SmoothedLoss(0.1)(model, {"labels": labels}, 1)
    torch.testing.assert_close(loss, torch.as_tensor(by_hand))


def test_without_smoothing_it_is_the_models_own_loss() -> None:
    config = MatchedConfig(architecture="conv", vocab_size=9, width=16, dropout=0.0)
    model, loss = MatchedSeq2Seq(config), SmoothedLoss(0.0)
    batch = {
        "input_ids": torch.tensor([[3, 4], [5, 0]]),
        "labels": torch.tensor([[6, 2, IGNORED], [7, 8, 2]]),
    }
    own = model(**batch)["loss"]
    torch.testing.assert_close(loss(model, batch, 1), own)
    logits = model(**batch)["logits"]
    nats, counts = nats_per_row(logits, batch["labels"]).sum(dim=0).tolist()
    assert counts == 5
    assert nats / counts == pytest.approx(own.item(), rel=1e-6)
    assert own.item() < 2 * math.log(9)
