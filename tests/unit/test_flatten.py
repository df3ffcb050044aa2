"""The flatten rule against its definition, for any shape, number of rows and order."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embshare.ops.flatten import read_block, rows_needed, write_block
from embshare.plan.slots import columns_needed

shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)
orders = st.sampled_from(["row", "column"])


def place(t: int, rows: int, columns: int, order: str) -> tuple[int, int]:
    """Where the definition puts element ``t``."""
    return (t // columns, t % columns) if order == "row" else (t % rows, t // rows)


@given(shape=shapes, rows=st.integers(1, 40), order=orders)
def test_every_element_is_read_from_its_place(
    shape: tuple[int, ...], rows: int, order: str
) -> None:
    numel = math.prod(shape)
    columns = columns_needed(numel, rows)
    assert (columns - 1) * rows < numel <= columns * rows
    table = torch.arange(float(rows * columns)).view(rows, columns)
    needed = rows_needed(numel, columns, rows, order)
    block = read_block(table[:needed], shape, order)
    assert block.shape == shape
    for t, value in enumerate(block.flatten().tolist()):
        assert value == table[place(t, rows, columns, order)].item()


@given(shape=shapes, rows=st.integers(1, 40), order=orders)
def test_what_is_written_is_read_back_and_the_rest_is_zero(
    shape: tuple[int, ...], rows: int, order: str
) -> None:
    numel = math.prod(shape)
    columns = columns_needed(numel, rows)
    needed = rows_needed(numel, columns, rows, order)
    table = torch.full((needed, columns), float("nan"))
    block = 1 + torch.arange(float(numel)).view(shape)
    write_block(block, table, order)
    assert torch.equal(read_block(table, shape, order), block)
    assert torch.count_nonzero(table) == numel


@pytest.mark.parametrize("order", ["row", "column"])
def test_no_row_is_asked_for_that_nothing_reads(order: str) -> None:
    assert rows_needed(7, 2, 5, order) == (4 if order == "row" else 5)
    assert rows_needed(3, 1, 5, order) == 3
