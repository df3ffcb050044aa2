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
    if plan.config.anchor:
        rows = rows + plan.config.anchor * plan.sources[number].spread * reference_signs(
            *rows.shape
        )
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


def reference_signs(rows: int, width: int) -> Tensor:
    """``R`` of the anchor in Python's own integers."""
    prime, sequence = 2**31 - 1, []
    for position in range(1, rows + width):
        state = position
        for factor, offset in ((1103515245, 12345), (69621, 362437), (40014, 521288629)):
            state = (state * state + position * factor + offset) % prime
        sequence.append(1.0 if state < prime // 2 else -1.0)
    return torch.tensor([[sequence[v + f] for f in range(width)] for v in range(rows)])
