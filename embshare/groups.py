"""`parameter_groups`: what an optimizer should know about a shared model."""

from __future__ import annotations

from typing import Any

from torch import nn

from embshare.factor import FactorMap
from embshare.state import bank_of

__all__ = ["parameter_groups"]


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.01,
    projection_lr: float = 1.0,
    projection_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Parameters in groups for any torch optimizer; for a dense model, the usual two.

    Args:
        model: shared or dense.
        lr: learning rate of everything but the bank.
        weight_decay: of matrices; biases, norms and gains get none.
        projection_lr: the bank's learning rate as a multiple of ``lr``.
        projection_decay: the bank's weight decay as a multiple of ``weight_decay``.
    Returns:
        Dicts with ``params``, ``lr``, ``weight_decay`` and a ``name`` of ``decay``, ``no_decay``,
        ``projection`` or ``relaxation``; empty groups are left out, each parameter is in one.
    """
    bank = bank_of(model)
    projections = set() if bank is None else {p for p in bank.sources.parameters() if p.dim() >= 2}
    projections |= {
        p
        for module in model.modules()
        if isinstance(module, FactorMap)
        for p in module.parameters()
        if p.dim() >= 2
    }
    relaxations = set() if bank is None else set(bank.relaxations.parameters())
    groups: dict[str, list[nn.Parameter]] = {
        "decay": [],
        "no_decay": [],
        "projection": [],
        "relaxation": [],
    }
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter in projections:
            groups["projection"].append(parameter)
        elif parameter in relaxations:
            groups["relaxation"].append(parameter)
        else:
            groups["decay" if parameter.dim() >= 2 else "no_decay"].append(parameter)
    settings = {
        "decay": (lr, weight_decay),
        "no_decay": (lr, 0.0),
        "projection": (lr * projection_lr, weight_decay * projection_decay),
        "relaxation": (lr, 0.0),
    }
    return [
        {"name": name, "params": found, "lr": settings[name][0], "weight_decay": settings[name][1]}
        for name, found in groups.items()
        if found
    ]
