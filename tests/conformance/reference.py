"""The flatten rule, slow and obvious: loops, one element at a time, no code of the library."""

from __future__ import annotations

import torch
from torch import Tensor

from embshare import SharePlan, Slot


def reference_columns(
    plan: SharePlan, number: int, table: Tensor, projection: Tensor | None, bias: Tensor | None
) -> Tensor:
    """``S`` of one source, whole."""
    rows = table[: plan.sources[number].rows]
    if projection is None:
        return rows
    columns = rows @ projection.t()
    return columns if bias is None else columns + bias


def reference_weight(slot: Slot, columns: Tensor, rows: int, order: str) -> Tensor:
    """Element by element, as the design says it."""
    elements = []
    for t in range(slot.numel):
        if order == "row":
            row, column = t // slot.columns, t % slot.columns
        else:
            row, column = t % rows, t // rows
        elements.append(columns[row, slot.start + column] * slot.gain)
    flat = torch.stack(elements)
    if slot.transposed:
        return flat.view(slot.shape[1], slot.shape[0]).t()
    return flat.view(slot.shape)
