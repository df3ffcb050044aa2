"""`layout_of`: which columns of a table one call computes, and how they are cut into weights."""

from __future__ import annotations

from collections.abc import Sequence

from embshare.ops.derive import Cut, Layout
from embshare.ops.flatten import rows_needed
from embshare.plan.slots import Slot

__all__ = ["layout_of"]


def layout_of(
    slots: Sequence[Slot],
    rows: int,
    order: str,
    *,
    gains: Sequence[float] | None = None,
    anchor: float = 0.0,
    fixed: int | None = None,
) -> Layout:
    """The layout that reads ``slots`` of one source of ``rows`` rows, in the order given.

    Args:
        slots: of one source.
        rows: ``V``.
        order: ``row`` or ``column``.
        gains: one for each slot, instead of the slot's.
        anchor: in the table's own unit.
        fixed: the padding row.
    """
    gains = [slot.gain for slot in slots] if gains is None else gains
    wanted = sorted(slots, key=lambda slot: slot.start)
    first: dict[int, int] = {}
    index: list[int] = []
    for slot in wanted:
        first[slot.start] = len(index)
        index.extend(range(slot.start, slot.stop))
    adjacent = index[-1] - index[0] + 1 == len(index)
    cuts = tuple(
        Cut(
            first=first[slot.start],
            columns=slot.columns,
            rows=rows_needed(slot.numel, slot.columns, rows, order),
            numel=slot.numel,
            block_shape=slot.block_shape,
            transposed=slot.transposed,
            gain=gain,
        )
        for slot, gain in zip(slots, gains, strict=True)
    )
    return Layout(
        order=order,
        rows=max(cut.rows for cut in cuts),
        columns=slice(index[0], index[-1] + 1) if adjacent else tuple(index),
        width=len(index),
        cuts=cuts,
        anchor=anchor,
        fixed=fixed,
    )
