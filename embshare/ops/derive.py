"""The weights of many slots from one table: one projection, one cut, one concatenation back.

`derive` is a function of tensors. In eager mode it is an autograd function that keeps its inputs by
reference and saves nothing: its backward can run again (two losses of one derivation), and
activation checkpointing sees no saved tensors of it. Where a tracer or a functional transform
must see through it, the same rule is written in plain operations.

Axis letters: v rows of the table, f its stored width, w columns of one call, g columns of one slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from embshare.ops.anchor import anchored
from embshare.ops.autocast import without_autocast
from embshare.ops.flatten import read_block, write_block
from embshare.ops.tracing import must_be_plain
from embshare.ops.versions import changes_of

__all__ = ["Cut", "Layout", "Scaled", "derive"]


Scaled = tuple[Sequence[Tensor], Tensor | None]
"""A gain ``[]`` for each slot, and the anchor in the table's own unit, ``[]``, of a table."""


@dataclass(frozen=True)
class Cut:
    """One slot among the columns of one call."""

    first: int
    columns: int
    rows: int
    numel: int
    block_shape: tuple[int, ...]
    transposed: bool
    gain: float


@dataclass(frozen=True)
class Layout:
    """Which columns one call computes, and how they are cut."""

    order: str
    rows: int
    columns: slice | tuple[int, ...]
    width: int
    cuts: tuple[Cut, ...]
    anchor: float = 0.0
    """How much of the fixed signs is added to the table, in the table's own unit."""
    fixed: int | None = None
    """A row of the table that gets no gradient."""


def derive(
    layout: Layout,
    table: Tensor,
    projection: Tensor | None,
    bias: Tensor | None,
    *,
    scales: Scaled | None = None,
    dtype: torch.dtype | None = None,
    ready: Sequence[Tensor] | None = None,
    keep: Callable[[Any, tuple[Tensor, ...]], None] | None = None,
) -> tuple[Tensor, ...]:
    """The weights of a layout's slots, each of its slot's shape.

    Args:
        layout: as of `embshare.blocks.layout.layout_of`.
        table: ``[V' >= V, F]``; rows beyond those needed are not touched.
        projection: ``[W, F]`` of ``S = E P^T + b``, or None for EPS.
        bias: ``[W]`` or None.
        scales: gains and anchor as tensors, for tracers and transforms, which must not see them
            as constants; None takes the layout's numbers.
        dtype: of the result; None is the table's. The projection is computed in the table's.
        ready: results of an earlier call with equal inputs, to be attached to a new graph node
            instead of computed.
        keep: called with the graph node and the results, without their graph.
    Returns:
        One tensor for each slot; gradients reach table, projection and bias.
    """
    with torch.enable_grad(), without_autocast(table.device.type):
        if must_be_plain():
            return _plain(layout, table, projection, bias, dtype, scales)
        return _Derive.apply(layout, dtype, ready, keep, table, projection, bias)  # type: ignore[no-any-return]


# Why: docs/explanation/decisions/columns-in-one-piece.md
def _project(
    layout: Layout,
    table: Tensor,
    projection: Tensor | None,
    bias: Tensor | None,
    anchor: Tensor | None = None,
) -> Tensor:
    """``[rows, width]``: the columns of one call, each in one piece of memory.

    So the few columns of a slot, read row by row, are as many streams; rows of all columns would be
    read whole for the sake of a few of their elements.
    """
    head = _head(layout, table, anchor)
    if projection is None:
        return head[:, _index(layout, table)]
    used = projection[_index(layout, table)]
    if bias is None:
        return (used @ head.t()).t()
    return torch.addmm(bias[_index(layout, table)].unsqueeze(1), used, head.t()).t()


def _head(layout: Layout, table: Tensor, anchor: Tensor | None = None) -> Tensor:
    """``[rows, F]``: what is projected."""
    head = table[: layout.rows]
    row = layout.fixed
    if row is not None and row < layout.rows and torch.is_grad_enabled() and table.requires_grad:
        fixed = (torch.arange(layout.rows, device=table.device) == row).unsqueeze(1)
        head = torch.where(fixed, head.detach(), head)  # the padding row is a constant
    if not layout.anchor:
        return head
    return anchored(head, layout.anchor if anchor is None else anchor)


def _index(layout: Layout, like: Tensor) -> slice | Tensor:
    if isinstance(layout.columns, slice):
        return layout.columns
    return torch.tensor(layout.columns, device=like.device)


def _plain(
    layout: Layout,
    table: Tensor,
    projection: Tensor | None,
    bias: Tensor | None,
    dtype: torch.dtype | None,
    scales: Scaled | None = None,
) -> tuple[Tensor, ...]:
    gains, anchor = scales or (None, None)
    columns = _project(layout, table, projection, bias, anchor).to(dtype or table.dtype)
    weights = []
    for number, cut in enumerate(layout.cuts):
        piece = columns[: cut.rows, cut.first : cut.first + cut.columns]
        if gains is not None:
            piece = piece * gains[number]
        elif cut.gain != 1.0:
            piece = piece * cut.gain
        block = read_block(piece, cut.block_shape, layout.order)
        weights.append(block.t() if cut.transposed else block)
    return tuple(weights)


def _filled(columns: Tensor, cut: Cut, order: str, dtype: torch.dtype) -> Tensor:
    """One weight in new memory: gather, gain and cast in one pass."""
    piece = columns[: cut.rows, cut.first : cut.first + cut.columns]
    piece = piece if order == "row" else piece.t()
    buffer = torch.empty(piece.shape, dtype=dtype, device=columns.device)
    if cut.gain == 1.0:
        buffer.copy_(piece)
    else:
        torch.mul(piece, cut.gain, out=buffer)
    block = buffer.view(-1)[: cut.numel].view(cut.block_shape)
    return block.t() if cut.transposed else block


# Why: docs/explanation/decisions/derive-by-reference.md
class _Derive(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layout: Layout,
        dtype: torch.dtype | None,
        ready: Sequence[Tensor] | None,
        keep: Callable[[Any, tuple[Tensor, ...]], None] | None,
        table: Tensor,
        projection: Tensor | None,
        bias: Tensor | None,
    ) -> tuple[Tensor, ...]:
        ctx.layout = layout
        ctx.inputs = (
            table,
            projection,
            bias,
        )  # by reference: nothing is saved, see the module's text
        ctx.versions = _versions(ctx.inputs)
        ctx.set_materialize_grads(False)
        if ready is None:
            columns = _project(layout, table, projection, bias)
            wanted = dtype or table.dtype
            weights = tuple(_filled(columns, cut, layout.order, wanted) for cut in layout.cuts)
        else:
            weights = tuple(weight.detach() for weight in ready)
        if keep is not None:
            keep(ctx, tuple(weight.detach() for weight in weights))
        return weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if _versions(ctx.inputs) != ctx.versions:
            raise RuntimeError(
                "a source of derived weights was modified in place between forward and backward; "
                "call backward before optimizer.step(), or run the forward again."
            )
        table, projection, bias = ctx.inputs
        needs = ctx.needs_input_grad[4:]
        function = _plain_backward if torch.is_grad_enabled() else _fast_backward
        return (
            None,
            None,
            None,
            None,
            *function(ctx.layout, table, projection, bias, grads, needs),
        )


def _versions(inputs: Sequence[Tensor | None]) -> tuple[tuple[int, int], ...]:
    return tuple(changes_of(t) for t in inputs if t is not None)


Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def _fast_backward(
    layout: Layout,
    table: Tensor,
    projection: Tensor | None,
    bias: Tensor | None,
    grads: Sequence[Tensor | None],
    needs: Sequence[bool],
) -> Gradients:
    index = _index(layout, table)
    if projection is None:
        whole = torch.zeros_like(table)
        if isinstance(index, slice):
            _write_all(
                whole[: layout.rows, index], layout, grads
            )  # straight into the table's gradient
        else:
            columns = table.new_empty(layout.rows, layout.width)
            _write_all(columns, layout, grads)
            whole[: layout.rows].index_copy_(1, index, columns)
        return _but_fixed(layout, whole), None, None
    columns = table.new_empty(layout.width, layout.rows).t()  # strides as in `_project`
    _write_all(columns, layout, grads)
    d_table = d_projection = d_bias = None
    if needs[0]:
        d_table = torch.empty_like(table)  # the product writes its rows: only the rest is zeroed
        torch.mm(columns, projection[index], out=d_table[: layout.rows])
        d_table[layout.rows :].zero_()
        d_table = _but_fixed(layout, d_table)
    if needs[1]:
        d_projection = _spread(columns.t() @ _head(layout, table), projection, index)
    if bias is not None and needs[2]:
        d_bias = _spread(columns.sum(0), bias, index)
    return d_table, d_projection, d_bias


def _but_fixed(layout: Layout, gradient: Tensor) -> Tensor:
    """A table's gradient, zero in the padding row."""
    if layout.fixed is not None:
        gradient[layout.fixed].zero_()
    return gradient


def _write_all(columns: Tensor, layout: Layout, grads: Sequence[Tensor | None]) -> None:
    for cut, grad in zip(layout.cuts, grads, strict=True):
        piece = columns[:, cut.first : cut.first + cut.columns]
        if grad is None:
            piece.zero_()
            continue
        write_block(grad.t() if cut.transposed else grad, piece[: cut.rows], layout.order)
        piece[cut.rows :].zero_()
        if cut.gain != 1.0:
            piece[: cut.rows].mul_(cut.gain)


def _spread(gradient: Tensor, like: Tensor, index: slice | Tensor) -> Tensor:
    """A gradient of the used rows as one of all rows."""
    if gradient.shape == like.shape:
        return gradient
    whole = torch.zeros_like(like)
    whole[index] = gradient
    return whole


def _plain_backward(
    layout: Layout,
    table: Tensor,
    projection: Tensor | None,
    bias: Tensor | None,
    grads: Sequence[Tensor | None],
    needs: Sequence[bool],
) -> Gradients:
    """The same in differentiable operations, for gradients of gradients."""
    inputs = [
        t
        for t, need in zip((table, projection, bias), needs, strict=True)
        if need and t is not None
    ]
    weights = _plain(layout, table, projection, bias, None)
    pairs = [(w, g.to(w.dtype)) for w, g in zip(weights, grads, strict=True) if g is not None]
    found = torch.autograd.grad(
        [w for w, _ in pairs], inputs, [g for _, g in pairs], create_graph=True, allow_unused=True
    )
    rest = iter(found)
    first, second, third = (
        next(rest) if need and t is not None else None
        for t, need in zip((table, projection, bias), needs, strict=True)
    )
    return first, second, third
