"""`summarize`: the honest numbers of a shared model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from embshare._tables import new_table, render, shape_text
from embshare.errors import NotSharedError
from embshare.plan.printing import abbreviate, count_patterns, error_text, left_dense_table
from embshare.plan.slots import LeftDense
from embshare.plan.values import SharePlan
from embshare.runtime.bank import Bank, roots_of
from embshare.runtime.current_plan import Place, places, plan_now
from embshare.runtime.factorized import FactorMap, is_factored
from embshare.wrapping import unwrapped

__all__ = ["LayerRow", "Summary", "summarize", "totals_table"]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One slot: who reads it and how often."""

    weights: tuple[str, ...]
    shape: tuple[int, ...]
    start: int
    columns: int
    """0 where the block is a parameter."""
    reuse: int
    """Weights that read this slot; a parameter that the model itself ties counts once."""
    fit_error: float | None = None
    """Relative error of the fit, as in `embshare.Slot`."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts in parameters, sizes in bytes, costs in multiply-adds; ``str()`` is a table."""

    stored: int
    """Parameters in a checkpoint; a shared one once."""
    read: int
    """Parameters that the layers compute with; a shared one at each reader."""
    stored_before: int
    """Parameters of the dense model."""
    bytes: int
    """Bytes of the stored parameters and persistent buffers."""
    bytes_before: int
    hidden_before: int
    """Parameters of the weights that are derived now."""
    hidden_stored: int
    """What is stored in their place: projections, column biases, blocks, gains, residuals."""
    unused_columns: tuple[int, ...]
    """Columns that nothing reads, for each source."""
    layers: tuple[LayerRow, ...]
    left_dense: tuple[LeftDense, ...]
    derive_macs: int
    """Multiply-adds to derive every weight once: one outermost call or `embshare.cached` block."""
    macs_per_position: int
    """Multiply-adds of the model's own matrices for one token (or pixel): one for each element that
    is read. Attention between positions is not in it; sharing changes none of this."""
    start: str
    """How the derived weights started, why, and how near to trained ones that was."""
    fit_error: float | None
    """Relative error of the fit, as in `embshare.SharePlan`."""

    def __str__(self) -> str:
        return render(self)

    def __rich__(self) -> RenderableType:
        """What is stored, read and computed, and what each slot gives."""
        fitted = any(row.fit_error is not None for row in self.layers)
        read = any(row.columns for row in self.layers)
        place = ["columns", "G"] if read else []
        headings = [*place, "shape", "readers", "reuse", *["fit error"] * fitted]
        right = [i for i, name in enumerate(headings) if name != "readers"]
        slots = new_table(*headings, title="slots", right=right)
        counts = count_patterns(name for row in self.layers for name in row.weights)
        for row in self.layers:
            columns = f"[{row.start:,}, {row.start + row.columns:,})", f"{row.columns:,}"
            slots.add_row(
                *(columns if read else ()),
                shape_text(row.shape),
                Text("\n".join(abbreviate(row.weights, counts))),
                f"×{row.reuse}",
                *[error_text(row.fit_error)] * fitted,
            )
        unused = ", ".join(f"{columns:,}" for columns in self.unused_columns)
        parts: list[RenderableType] = [
            totals_table(self),
            slots,
            Text(f"start: {self.start}"),
            Text(f"unused columns: {unused}\n" if read else ""),
        ]
        if self.left_dense:
            parts.append(left_dense_table(self.left_dense))
        return Group(*parts)


def summarize(model: nn.Module) -> Summary:
    """Count what a shared model stores, reads and computes, as it is now.

    Args:
        model: as `share_from_embedding` returned it, wrapped or not, on any device; or a parent of
            shared models, which are counted together.
    Raises:
        NotSharedError: the model is dense, or a part of a shared model.
    """
    model = unwrapped(model)
    roots = list(roots_of(model))
    if not roots:
        raise NotSharedError(model=type(model).__name__)
    banks = [bank for _, _, bank in roots]
    found = [(path, bank, list(places(root, bank))) for path, root, bank in roots]
    stored = {id(p): p for p in model.parameters()}
    extra = {id(p) for p in _extra(model, banks)}
    own = [p for key, p in stored.items() if key not in extra]
    widths = _factored_widths(model)
    hidden = sum(_hidden(bank, here) for _, bank, here in found)
    before = [(p.shape[0] * widths[id(p)] if id(p) in widths else p.numel()) for p in own]
    size = own[0].element_size() if own else 4
    buffers, scales = _persistent_bytes(model), sum(map(_persistent_bytes, banks))
    derived = sum(_numel(bank, place) for _, bank, here in found for place in _once(here))
    plans = [plan_now(root, bank) for _, root, bank in roots]
    return Summary(
        stored=sum(p.numel() for p in stored.values()),
        read=derived + sum(numel for _, _, numel in _places(model, extra, widths)),
        stored_before=sum(before) + hidden,
        bytes=sum(p.numel() * p.element_size() for p in stored.values()) + buffers,
        bytes_before=sum(n * p.element_size() for n, p in zip(before, own, strict=True))
        + hidden * size
        + buffers
        - scales,
        hidden_before=hidden,
        hidden_stored=sum(p.numel() for bank in banks for p in bank.parameters()),
        unused_columns=tuple(p.unused_columns(i) for p in plans for i in range(len(p.sources))),
        layers=tuple(row for entry in found for row in _rows(*entry)),
        left_dense=tuple(entry for plan in plans for entry in plan.left_dense),
        derive_macs=sum(map(_derive_macs, plans)),
        macs_per_position=derived + _dense_macs(model, extra, widths),
        start="; ".join(dict.fromkeys(plan.start_line for plan in plans)),
        fit_error=plans[0].fit_error if len(plans) == 1 else None,
    )


def _extra(model: nn.Module, banks: Sequence[Bank]) -> list[Tensor]:
    maps = [module for module in model.modules() if isinstance(module, FactorMap)]
    return [p for module in (*banks, *maps) for p in module.parameters()]


def _numel(bank: Bank, place: Place) -> int:
    return bank.scales.plan.slots[bank.readers[place.reader].slot].numel


def _once(found: Sequence[Place]) -> list[Place]:
    """Each weight of each layer, whatever names the layer has."""
    return list({(id(place.layer), place.leaf): place for place in found}.values())


def _hidden(bank: Bank, found: Sequence[Place]) -> int:
    """Elements that the dense model stores: a weight that it ties once, a copied layer's again."""
    units = {
        place.reader
        if (place.layer, place.leaf) in bank.readers[place.reader].places
        else (id(place.layer), place.leaf): place
        for place in found
    }
    return sum(_numel(bank, place) for place in units.values())


def _factored_widths(model: nn.Module) -> dict[int, int]:
    """Stored factorised table -> the width that the model sees."""
    return {
        id(module._parameters["weight"]): module.__dict__["_embshare_factor"].weight.shape[0]
        for module in model.modules()
        if is_factored(module)
    }


def _places(
    model: nn.Module, extra: set[int], widths: dict[int, int]
) -> Iterator[tuple[nn.Module, Tensor, int]]:
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None and id(parameter) not in extra:
                width = widths.get(id(parameter))
                yield module, parameter, parameter.shape[0] * width if width else parameter.numel()


def _dense_macs(model: nn.Module, extra: set[int], widths: dict[int, int]) -> int:
    tables = (nn.Embedding, nn.EmbeddingBag)
    return sum(
        numel
        for module, parameter, numel in _places(model, extra, widths)
        if parameter.dim() >= 2 and not isinstance(module, tables)
    )


def _derive_macs(plan: SharePlan) -> int:
    if plan.config.method == "eps":
        return 0
    return sum(
        source.rows * source.stored_dim * sum(s.columns for s in plan.of_source(number))
        for number, source in enumerate(plan.sources)
    )


def _persistent_bytes(model: nn.Module) -> int:
    return sum(
        buffer.numel() * buffer.element_size()
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    )


def _rows(path: str, bank: Bank, found: Sequence[Place]) -> Iterator[LayerRow]:
    names: dict[int, dict[str, int]] = defaultdict(dict)
    for place in found:
        name = f"{path}.{place.name}" if path else place.name
        names[bank.readers[place.reader].slot][name] = place.reader
    planned = {name: number for number, name in enumerate(bank.scales.plan.weights())}
    for number, slot in enumerate(bank.scales.plan.slots):
        if here := names.get(number):
            yield LayerRow(
                weights=tuple(sorted(here, key=lambda name: planned.get(name, len(planned)))),
                shape=slot.shape,
                start=slot.start,
                columns=slot.columns,
                reuse=len(set(here.values())),
                fit_error=slot.fit_error,
            )


def totals_table(summary: Summary) -> RenderableType:
    """What is stored, read and computed: dense and shared beside each other."""
    totals = new_table("", "dense", "shared", "ratio", right=(1, 2, 3))
    _compare(totals, "stored parameters", summary.stored_before, summary.stored)
    _compare(totals, "of them for hidden weights", summary.hidden_before, summary.hidden_stored)
    _compare(totals, "bytes", summary.bytes_before, summary.bytes)
    totals.add_row("parameters read", "", f"{summary.read:,}", "")
    totals.add_row("multiply-adds per position", *[f"{summary.macs_per_position:,}"] * 2, "1.00")
    totals.add_row("multiply-adds to derive once", "", f"{summary.derive_macs:,}", "")
    return totals


def _compare(table: Table, name: str, before: int, after: int) -> None:
    ratio = f"{before / after:.2f}" if after else "-"
    table.add_row(name, f"{before:,}", f"{after:,}", ratio)
