"""How near a start by svd comes to the trained weights, residuals included."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from embshare.runtime.bank import Bank, require_bank

__all__ = ["record_errors"]


@torch.no_grad()
def record_errors(model: nn.Module, trained: Sequence[Tensor]) -> None:
    """Write `Slot.fit_error` and `SharePlan.fit_error` into the plan of a model just started.

    Args:
        model: shared, with the weights that its layers get at the start.
        trained: what each of the bank's readers held before, in their order.
    """
    bank = require_bank(model)
    evaluations = bank.evaluations
    lost, whole = [0.0] * len(bank.plan.slots), [0.0] * len(bank.plan.slots)
    block: tuple[int, Tensor] | None = None
    for index, (reader, weight) in enumerate(zip(bank.readers, trained, strict=True)):
        if block is None or block[0] != reader.slot or len(bank.relaxations):
            block = reader.slot, bank.read(index)  # without relaxations, a slot's readers are equal
        lost[reader.slot] += _square(_wide(block[1]) - _wide(weight))
        whole[reader.slot] += _square(_wide(weight))
    bank.evaluations = evaluations
    _write(bank, lost, whole)


def _wide(weight: Tensor) -> Tensor:
    return weight.to(torch.promote_types(weight.dtype, torch.float32))


def _square(difference: Tensor) -> float:
    return float(torch.linalg.vector_norm(difference, dtype=torch.float64)) ** 2


def _write(bank: Bank, lost: Sequence[float], whole: Sequence[float]) -> None:
    slots = tuple(
        slot.model_copy(update={"fit_error": _relative(error, norm)})
        for slot, error, norm in zip(bank.plan.slots, lost, whole, strict=True)
    )
    error = _relative(sum(lost), sum(whole))
    bank.adopt(bank.plan.model_copy(update={"slots": slots, "fit_error": error}))


def _relative(lost: float, whole: float) -> float | None:
    """``None`` where the trained weights are all zero, or not finite."""
    if not whole or not math.isfinite(lost / whole):
        return None
    return math.sqrt(lost / whole)
