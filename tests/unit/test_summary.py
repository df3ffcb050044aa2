"""Counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import embshare
from embshare import ShareConfig
from embshare.errors import NotSharedError, UnevenCoverageWarning


class Model(nn.Module):
    """A table of 100 x 8, three linear layers of one role, a norm, a tied head with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 100)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.ones(5))
        self.register_buffer("mask", torch.ones(7), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids)
        for layer in self.layers:
            hidden = layer(hidden)
        found: Tensor = self.head(self.norm(hidden))
        return found


TABLE, HIDDEN, BIASES, NORM, HEAD_BIAS = 800, 3 * 64, 3 * 8, 16, 100
REST = BIASES + NORM + HEAD_BIAS


@pytest.mark.parametrize(
    ("config", "in_place_of_hidden", "macs"),
    [
        (ShareConfig(), 8, 100 * 8),
        (ShareConfig(tie="none"), 3 * 8, 3 * 100 * 8),
        (ShareConfig(column_bias=True), 8 + 1, 100 * 8),
        (ShareConfig(width=4), 4 * 8, 100 * 8),
        (ShareConfig(gain="learned"), 8 + 3, 100 * 8),
        (ShareConfig(gain="channel"), 8 + 3 * 8, 100 * 8),
        (ShareConfig(residual_rank=2), 8 + 3 * 2 * 16, 100 * 8),
        (ShareConfig(anchor=2.0), 8, 100 * 8),
        (ShareConfig(method="eps"), 0, 0),
    ],
    ids=str,
)
def test_without_a_factor(config: ShareConfig, in_place_of_hidden: int, macs: int) -> None:
    found = embshare.summarize(embshare.share_from_embedding(Model(), config))
    assert found.stored == TABLE + REST + in_place_of_hidden
    assert found.stored_before == TABLE + REST + HIDDEN
    assert (found.hidden_before, found.hidden_stored) == (HIDDEN, in_place_of_hidden)
    assert found.read == 2 * TABLE + HIDDEN + REST
    scales = len(found.layers) + 1 + 128  # gains, the table's standard deviation, the layout
    assert found.bytes == 4 * (found.stored + 5 + scales)
    assert found.bytes_before == 4 * (found.stored_before + 5)
    assert found.derive_macs == macs
    assert found.macs_per_position == HIDDEN + TABLE
    reuse = [row.reuse for row in found.layers]
    assert reuse == ([1, 1, 1] if config.tie == "none" else [3])


def test_with_a_factor() -> None:
    found = embshare.summarize(embshare.share_from_embedding(Model(), ShareConfig(factor=3)))
    assert found.stored == 100 * 3 + 8 * 3 + REST + 3
    assert found.stored_before == TABLE + REST + HIDDEN
    assert found.derive_macs == 100 * 3


def test_half_precision_is_half_the_bytes() -> None:
    model = embshare.share_from_embedding(Model())
    whole = embshare.summarize(model)
    half = embshare.summarize(model.half())
    assert (half.stored, half.read) == (whole.stored, whole.read)
    assert 2 * half.bytes_before == whole.bytes_before
    scales = 4 * (1 + 1 + 128)  # gains are never rounded
    assert 2 * (half.bytes - scales) == whole.bytes - scales


def test_unused_columns_and_what_stays_dense() -> None:
    config = ShareConfig(method="eps", exclude=("layers.2.*",))
    with pytest.warns(UnevenCoverageWarning, match="excluded by"):
        shared = embshare.share_from_embedding(Model(), config)
    found = embshare.summarize(shared)
    assert found.unused_columns == (8 - 1,)
    (left,) = [row for row in found.left_dense if row.weight == "layers.2.weight"]
    assert left.numel == 64
    assert "exclude" in left.reason
    text = str(found)
    assert "layers.2.weight" in text and "unused" in text


def test_dense_models_are_refused() -> None:
    with pytest.raises(NotSharedError, match="Model is not shared"):
        embshare.summarize(Model())
