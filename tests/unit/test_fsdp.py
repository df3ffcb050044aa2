"""Which modules become groups; that two processes then compute what one does is another test
(`tests/conformance/test_processes.py`)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import embshare
from embshare.runtime.bank import require_bank


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])


class Side(nn.Module):
    """An encoder or decoder: a table and blocks."""

    def __init__(self, table: nn.Embedding | None = None) -> None:
        super().__init__()
        self.embed = table or nn.Embedding(50, 8)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.deep = nn.ModuleList([nn.ModuleList([Block()])])


def names(model: nn.Module, **options: int) -> list[str]:
    of = {module: name for name, module in model.named_modules()}
    return [of[group] for group in embshare.fsdp_groups(model, **options)]


def test_outermost_blocks_are_groups_and_the_model_is_the_last() -> None:
    model = embshare.share_from_embedding(Side())
    assert names(model, min_parameters=0) == ["blocks.0", "blocks.1", "deep.0.0", ""]


def test_small_blocks_stay_in_the_roots_group() -> None:
    dense = Side()
    dense.blocks[0].add_module("norm", nn.LayerNorm(100_000))
    model = embshare.share_from_embedding(dense)
    assert names(model) == ["blocks.0", ""]
    assert names(model, min_parameters=200_017) == [""]


def test_a_block_that_owns_a_table_is_not_a_group_but_its_blocks_are() -> None:
    model = nn.Module()
    model.sides = nn.ModuleList([Side(), Side()])
    config = embshare.ShareConfig(
        source={"sides.0.*": "sides.0.embed", "sides.1.*": "sides.1.embed"}
    )
    embshare.share_from_embedding(model, config)
    inside = ("blocks.0", "blocks.1", "deep.0.0")
    wanted = [f"sides.{side}.{name}" for side in (0, 1) for name in inside]
    assert names(model, min_parameters=0) == [*wanted, ""]


def test_a_block_that_shares_a_parameter_with_another_is_not_a_group() -> None:
    dense = Side()
    first, second = (dense.get_submodule(f"blocks.{index}.inner.0") for index in (0, 1))
    first.bias = second.bias
    model = embshare.share_from_embedding(dense)
    found = names(model, min_parameters=0)
    assert found == ["blocks.0.inner.1", "blocks.1.inner.1", "deep.0.0", ""]


def test_every_parameter_is_in_one_group() -> None:
    model = embshare.share_from_embedding(Side())
    *blocks, root = embshare.fsdp_groups(model, min_parameters=0)
    inside = [p for block in blocks for p in block.parameters()]
    assert len(inside) == len(set(inside)) and root is model
    rest = set(model.parameters()) - set(inside)
    assert model.embed.weight in rest and set(require_bank(model).parameters()) <= rest


def test_a_dense_model_is_refused() -> None:
    with pytest.raises(embshare.EmbshareError, match="is not shared"):
        embshare.fsdp_groups(Side().to(torch.device("meta")))
