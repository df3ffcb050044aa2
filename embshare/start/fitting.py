"""`init="svd"`: the shared model nearest to the trained weights in the least-squares sense.

A block that is a parameter begins as the mean of the weights that read it, which is what comes
nearest to all of them.

For each source, the weights of its slots are flattened into columns ``S`` (tied readers by their
mean, which is what one block comes nearest to all of them with). With a factor, the truncated SVD
of ``[E | S]`` gives table and projections together (Eckart & Young 1936); without, the table stays
and the projection is the least-squares one. EPS reads its own columns, so table and weights meet
in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embshare.blocks.layout import layout_of
from embshare.blocks.own import Own
from embshare.errors import InvalidValueError
from embshare.ops.derive import derive
from embshare.ops.flatten import rows_needed, write_block
from embshare.plan.slots import Slot, Source
from embshare.plan.values import SharePlan
from embshare.runtime.bank import Bank
from embshare.runtime.factorized import Factorization
from embshare.runtime.relaxation import Relaxation
from embshare.start.activations import Inputs, inputs_of_weights
from embshare.start.low_rank import fit_projection, joint_low_rank, low_rank_for_inputs

__all__ = ["SourceStart", "Start", "fit"]

EPS_ROUNDS = 10
"""Alternations of an EPS table with a factor; the error falls below 1 % of its change by then."""


@dataclass(frozen=True, kw_only=True)
class SourceStart:
    """Where one source starts; None is where nothing changes."""

    table: Tensor | None = None
    """``[V', F]``."""
    factor: Tensor | None = None
    """``[D, F]``."""
    projection: Tensor | None = None
    """``[used, F]`` of the columns from the first used one on."""
    bias: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """Values for the bank and the factorised tables, computed before the model is touched."""

    sources: tuple[SourceStart, ...]
    blocks: Mapping[int, Tensor]
    """Slots whose block is a parameter, and where it starts."""
    weights: tuple[Tensor, ...]
    """The trained weight of each of the bank's readers."""
    inputs: tuple[Inputs | None, ...]
    """What calibration showed each of them to multiply; None where it is not known."""

    @torch.no_grad()
    def load(self, bank: Bank, factorizations: Sequence[Factorization | None]) -> None:
        """Put the values where they belong, and fit each residual to what is left over."""
        for material in bank.materials:
            if isinstance(material, Own):
                material.start_at(self.blocks)
        tables = []
        for number, (start, columns) in enumerate(zip(self.sources, bank.columns, strict=True)):
            first = min(slot.start for slot in bank.plan.of_source(number))
            if columns.projection is not None and start.projection is not None:
                columns.projection[first : first + len(start.projection)].copy_(start.projection)
            if columns.bias is not None and start.bias is not None:
                columns.bias[first : first + len(start.bias)].copy_(start.bias)
            made = factorizations[number]
            if made is not None and start.factor is not None:
                made.map.weight.copy_(start.factor)
            tables.append(columns.table() if made is None else made.table)
        if bank.plan.config.residual_rank:
            self._fit_residuals(
                bank,
                [
                    t.flatten(1) if s.table is None else s.table
                    for s, t in zip(self.sources, tables, strict=True)
                ],
            )
        for start, table in zip(self.sources, tables, strict=True):
            if start.table is not None:
                table.copy_(start.table.view_as(table))

    def _fit_residuals(self, bank: Bank, tables: Sequence[Tensor]) -> None:
        blocks = dict(self.blocks)
        for number, columns in enumerate(bank.columns):
            mine = [i for i, slot in enumerate(bank.plan.slots) if slot.source == number]
            slots = [bank.plan.slots[i] for i in mine]
            layout = layout_of(slots, columns.source.rows, bank.plan.config.order)
            found = derive(layout, tables[number], columns.projection, columns.bias)
            blocks |= zip(mine, found, strict=True)
        for reader, relaxation, weight, inputs in zip(
            bank.readers, bank.relaxations, self.weights, self.inputs, strict=True
        ):
            assert isinstance(relaxation, Relaxation)
            left_over = (weight - blocks[reader.slot]).reshape(weight.shape[0], -1)
            relaxation.start_at(*_residual(left_over, bank.plan.config.residual_rank, inputs))


def _residual(left_over: Tensor, rank: int, inputs: Inputs | None) -> tuple[Tensor, Tensor]:
    """``[n, rank]`` and ``[rank, m]``: the nearest product, in outputs where inputs are known."""
    if inputs is None:
        low = joint_low_rank(left_over, rank)
    elif inputs.dimension == 0:
        right, left, _ = low_rank_for_inputs(left_over.t(), rank, inputs.moment)
        return left, right.t()
    else:
        low = low_rank_for_inputs(left_over, rank, inputs.moment)
    return low.left, low.right.t()


def fit(
    model: nn.Module,
    plan: SharePlan,
    calibration: Sequence[object] | None,
    generator: torch.Generator | None,
) -> Start:
    """Fit every source of a plan to the model's weights; the model is not changed.

    Args:
        model: dense, with real weights.
        plan: made for it.
        calibration: inputs to run it on; residuals are then fitted to what layers put out.
        generator: of the randomised SVD.
    Raises:
        InvalidValueError: the weights are on meta.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name in (*(source.name for source in plan.sources[:1]), *plan.slots[0].weights):
        if parameters[name].device.type == "meta":
            raise InvalidValueError(
                what="share_from_embedding",
                faults=[f"init='svd' needs real weights, but `{name}` is on meta"],
            )
    known = {} if calibration is None else inputs_of_weights(model, plan, calibration)
    sources = tuple(
        _fit_source(plan, number, parameters, generator) for number in range(len(plan.sources))
    )
    names: list[str] = []
    for slot in plan.slots:
        first: dict[nn.Parameter, str] = {}
        for name in slot.weights:
            first.setdefault(parameters[name], name)
        names += first.values()
    return Start(
        sources=sources,
        blocks={n: _mean(s, parameters) for n, s in enumerate(plan.slots) if s.source is None},
        weights=tuple(parameters[name].detach() for name in names),
        inputs=tuple(known.get(name) for name in names),
    )


def _mean(slot: Slot, parameters: dict[str, nn.Parameter]) -> Tensor:
    """The block that is nearest to all weights that read it, in their dtype.

    In float64, in which a sum of equal numbers is exact: layers that are tied stay as they are.
    """
    readers = list(dict.fromkeys(parameters[name] for name in slot.weights))
    total = readers[0].detach().to(torch.float64)
    for other in readers[1:]:
        total = total + other.detach().to(total)
    return (total / (len(readers) * slot.gain)).to(readers[0].dtype)


def _fit_source(
    plan: SharePlan,
    number: int,
    parameters: dict[str, nn.Parameter],
    generator: torch.Generator | None,
) -> SourceStart:
    source, slots = plan.sources[number], plan.of_source(number)
    table = parameters[source.name].detach().flatten(1)
    columns, known = _columns(plan, slots, table, parameters)
    if plan.config.method == "eps":
        return _fit_eps(source, slots, table, columns, known, plan)
    everything = None if bool(known.all()) else known
    if plan.config.factor is None:
        fitted = fit_projection(
            table[: source.rows],
            columns[: source.rows],
            known=None if everything is None else everything[: source.rows],
            bias=plan.config.column_bias,
        )
        return SourceStart(projection=fitted.projection, bias=fitted.bias)
    bias = _column_means(columns, known) if plan.config.column_bias else None
    target = columns if bias is None else columns - bias
    both = torch.cat([table, target], dim=1)
    if everything is not None:
        everything = torch.cat([torch.ones_like(table, dtype=torch.bool), everything], dim=1)
    low = joint_low_rank(both, plan.config.factor, known=everything, generator=generator)
    return SourceStart(
        table=low.left,
        factor=low.right[: source.dim],
        projection=low.right[source.dim :],
        bias=bias,
    )


def _columns(
    plan: SharePlan,
    slots: Sequence[Slot],
    table: Tensor,
    parameters: dict[str, nn.Parameter],
) -> tuple[Tensor, Tensor]:
    """``[V', used]``: what the columns should be, and which elements are read."""
    first, last = min(s.start for s in slots), max(s.stop for s in slots)
    columns = table.new_zeros(table.shape[0], last - first)
    read = torch.zeros_like(columns)
    rows = plan.sources[slots[0].material].rows
    for slot in slots:
        needed = rows_needed(slot.numel, slot.columns, rows, plan.config.order)
        place = slice(slot.start - first, slot.stop - first)
        readers = list(dict.fromkeys(parameters[name] for name in slot.weights))
        mean = torch.stack([p.detach().to(columns.dtype) for p in readers]).mean(0) / slot.gain
        write_block(_block(mean, slot), columns[:needed, place], plan.config.order)
        write_block(_block(torch.ones_like(mean), slot), read[:needed, place], plan.config.order)
    return columns, read.bool()


def _block(weight: Tensor, slot: Slot) -> Tensor:
    return weight.t() if slot.transposed else weight


def _column_means(columns: Tensor, known: Tensor) -> Tensor:
    return (columns * known).sum(0) / known.sum(0).clamp(min=1)


def _fit_eps(
    source: Source,
    slots: Sequence[Slot],
    table: Tensor,
    columns: Tensor,
    known: Tensor,
    plan: SharePlan,
) -> SourceStart:
    first = min(slot.start for slot in slots)
    place = slice(first, first + columns.shape[1])
    weight = known.to(table.dtype)
    if plan.config.factor is None:
        met = table.clone()
        met[:, place] = (table[:, place] + weight * columns) / (1 + weight)
        return SourceStart(table=met)
    wide = torch.promote_types(table.dtype, torch.float32)  # torch solves in no half precision
    found = _alternate_eps(source, table.to(wide), columns.to(wide), weight.to(wide), place)
    assert found.table is not None and found.factor is not None
    return SourceStart(table=found.table.to(table.dtype), factor=found.factor.to(table.dtype))


def _alternate_eps(
    source: Source, table: Tensor, columns: Tensor, weight: Tensor, place: slice
) -> SourceStart:
    """``min |T A^T - E|^2 + w |T[:, place] - S|^2`` by turns, each of them linear."""
    stored = table.new_zeros(table.shape[0], source.stored_dim)
    stored[:, place] = columns
    free = source.stored_dim - columns.shape[1]
    if free:  # columns that nothing reads carry what the read ones do not span
        low = joint_low_rank(table, free)
        stored[:, [i for i in range(source.stored_dim) if not place.start <= i < place.stop]] = (
            low.left
        )
    spare = weight.mean(0)
    factor = torch.linalg.lstsq(stored, table).solution.t()
    for _ in range(EPS_ROUNDS):
        normal = factor.t() @ factor
        normal[range(place.start, place.stop), range(place.start, place.stop)] += spare
        right = table @ factor
        right[:, place] += spare * torch.where(weight > 0, columns, stored[:, place])
        stored = torch.linalg.lstsq(normal, right.t()).solution.t()
        factor = torch.linalg.lstsq(stored, table).solution.t()
    return SourceStart(table=stored, factor=factor)
