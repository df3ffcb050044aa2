"""`summarize`: the honest numbers of a shared model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from embshare.bank import Bank
from embshare.factor import FactorMap, is_factored
from embshare.plan import LeftDense
from embshare.state import require_bank

__all__ = ["LayerRow", "Summary", "summarize"]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One slot: who reads it and how often."""

    weights: tuple[str, ...]
    shape: tuple[int, ...]
    start: int
    columns: int
    reuse: int
    """Weights that read this slot; a parameter that the model itself ties counts once."""
    fit_error: float | None = None
    """As of `embshare.Slot`."""


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
    """Of the stored parameters and persistent buffers."""
    bytes_before: int
    hidden_before: int
    """Parameters of the weights that are derived now."""
    hidden_stored: int
    """What is stored in their place: projections, column biases, gains, residuals."""
    unused_columns: tuple[int, ...]
    """Columns that nothing reads, for each source."""
    layers: tuple[LayerRow, ...]
    left_dense: tuple[LeftDense, ...]
    derive_macs: int
    """Of deriving every weight once: one outermost call, or one `embshare.cached` block."""
    macs_per_position: int
    """Of the model's own matrices for one token (or pixel): one for each element that is read.
    Attention between positions is not in it; sharing changes none of this."""
    start: str
    """How the derived weights started, why, and how near to trained ones that was."""
    fit_error: float | None
    """As of `embshare.SharePlan`."""

    def __str__(self) -> str:
        from embshare.tables import render, summary_table

        return render(summary_table(self))


def summarize(model: nn.Module) -> Summary:
    """Count what a shared model stores, reads and computes.

    Args:
        model: as `share_from_embedding` returned it, wrapped or not, on any device.
    Raises:
        NotSharedError: the model is dense, or a part of a shared model.
    """
    bank = require_bank(model)
    stored = {id(p): p for p in model.parameters()}
    extra = _extra(model, bank)
    extra_ids = {id(p) for p in extra}
    own = [p for key, p in stored.items() if key not in extra_ids]
    widths = _factored_widths(model)
    hidden = sum(bank.plan.slots[reader.slot].numel for reader in bank.readers)
    before = [(p.shape[0] * widths[id(p)] if id(p) in widths else p.numel()) for p in own]
    size = own[0].element_size() if own else 4
    buffers = _persistent_bytes(model)
    return Summary(
        stored=sum(p.numel() for p in stored.values()),
        read=_read(model, bank, extra_ids, widths),
        stored_before=sum(before) + hidden,
        bytes=sum(p.numel() * p.element_size() for p in stored.values()) + buffers,
        bytes_before=sum(n * p.element_size() for n, p in zip(before, own, strict=True))
        + hidden * size
        + buffers,
        hidden_before=hidden,
        hidden_stored=sum(p.numel() for p in bank.parameters()),
        unused_columns=tuple(bank.plan.unused_columns(i) for i in range(len(bank.plan.sources))),
        layers=tuple(_rows(bank)),
        left_dense=bank.plan.left_dense,
        derive_macs=_derive_macs(bank),
        macs_per_position=_macs_per_position(model, bank, extra_ids, widths),
        start=bank.plan.start_line,
        fit_error=bank.plan.fit_error,
    )


def _extra(model: nn.Module, bank: Bank) -> list[Tensor]:
    maps = [module for module in model.modules() if isinstance(module, FactorMap)]
    return [p for module in (bank, *maps) for p in module.parameters()]


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


def _read(model: nn.Module, bank: Bank, extra: set[int], widths: dict[int, int]) -> int:
    derived = sum(bank.plan.slots[r.slot].numel * len(r.places) for r in bank.readers)
    return derived + sum(numel for _, _, numel in _places(model, extra, widths))


def _macs_per_position(
    model: nn.Module, bank: Bank, extra: set[int], widths: dict[int, int]
) -> int:
    derived = sum(bank.plan.slots[r.slot].numel * len(r.places) for r in bank.readers)
    tables = (nn.Embedding, nn.EmbeddingBag)
    dense = sum(
        numel
        for module, parameter, numel in _places(model, extra, widths)
        if parameter.dim() >= 2 and not isinstance(module, tables)
    )
    return derived + dense


def _derive_macs(bank: Bank) -> int:
    if bank.plan.config.method == "eps":
        return 0
    return sum(
        source.rows * source.stored_dim * sum(s.columns for s in bank.plan.of_source(number))
        for number, source in enumerate(bank.plan.sources)
    )


def _persistent_bytes(model: nn.Module) -> int:
    return sum(
        buffer.numel() * buffer.element_size()
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    )


def _rows(bank: Bank) -> Iterator[LayerRow]:
    reuse = [0] * len(bank.plan.slots)
    for reader in bank.readers:
        reuse[reader.slot] += 1
    for number, slot in enumerate(bank.plan.slots):
        yield LayerRow(
            weights=slot.weights,
            shape=slot.shape,
            start=slot.start,
            columns=slot.columns,
            reuse=reuse[number],
            fit_error=slot.fit_error,
        )
