"""The flatten rule as pure tensor functions.

Axis letters: v rows of the table, g columns of one slot, n elements of one weight.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["read_block", "rows_needed", "write_block"]


def rows_needed(numel: int, columns: int, rows: int, order: str) -> int:
    """Leading rows that a slot reads; the rest of its columns is ``delta``."""
    if order == "column":
        return rows if columns > 1 else numel
    return -(-numel // columns)


def read_block(columns_vg: Tensor, shape: Sequence[int], order: str) -> Tensor:
    """Flatten a slot's columns, drop the trailing elements, and give the rest its shape.

    Args:
        columns_vg: ``[V, G]``, or its leading rows as far as they are needed.
        shape: of the block, ``prod(shape) <= V * G``.
        order: ``row``: element ``t`` is ``[t // G, t % G]``; ``column``: ``[t % V, t // V]``.
    Returns:
        ``shape``; differentiable, a copy unless the columns were contiguous already.
    """
    numel = 1
    for size in shape:
        numel *= size
    ordered = columns_vg if order == "row" else columns_vg.t()
    return ordered.reshape(-1)[:numel].view(*shape)


def write_block(block: Tensor, columns_vg: Tensor, order: str) -> None:
    """The inverse of `read_block`, in place: elements that it drops become zero.

    Args:
        block: any shape, ``numel <= V * G``.
        columns_vg: ``[V, G]``, may be a strided view; overwritten whole.
    """
    flat = block.reshape(-1)
    lines = columns_vg if order == "row" else columns_vg.t()
    length = lines.shape[1]
    full, rest = divmod(flat.numel(), length)
    lines[:full].copy_(flat[: full * length].view(full, length))
    if full < lines.shape[0]:
        lines[full:].zero_()
        lines[full, :rest].copy_(flat[full * length :])
