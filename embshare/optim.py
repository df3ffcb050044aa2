"""`parameter_groups`: what an optimizer should know about a model, shared or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from embshare.plan.inventory import LOOKUPS
from embshare.runtime.bank import banks_of

__all__ = ["parameter_groups", "tables_of"]


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float = 0.01,
    hidden_lr: float = 0.3,
    hidden_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Parameters in groups for any torch optimizer.

    Tables learn best three to ten times as fast as the matrices of layers. In a shared model those
    come from the projection, so that ``hidden_lr`` is the projection's; in a dense model, and for
    matrices that sharing left dense, it is their own, which makes the two comparable.

    Args:
        model: shared or dense.
        lr: learning rate of tables, biases, norms and gains: about three times what you would
            give the whole model.
        weight_decay: of matrices; biases, norms and gains get none.
        hidden_lr: the learning rate of hidden matrices as a multiple of ``lr``: those of layers,
            a bank's projection, low-rank residuals, and a factor's map to the model's width.
        hidden_decay: their weight decay as a multiple of ``weight_decay``.
    Returns:
        Dicts with ``params``, ``lr``, ``weight_decay`` and a ``name`` of ``table``, ``hidden`` or
        ``vectors``; empty groups are left out, each parameter that is trained is in one.
    """
    tables, gains = set(tables_of(model)), set(_gains(model))
    groups: dict[str, list[nn.Parameter]] = {"table": [], "hidden": [], "vectors": []}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter in tables:
            name = "table"
        else:
            name = "vectors" if parameter.dim() < 2 or parameter in gains else "hidden"
        groups[name].append(parameter)
    settings = {
        "table": (lr, weight_decay),
        "hidden": (lr * hidden_lr, weight_decay * hidden_decay),
        "vectors": (lr, 0.0),
    }
    return [
        {"name": name, "params": groups[name], "lr": rate, "weight_decay": decay}
        for name, (rate, decay) in settings.items()
        if groups[name]
    ]


def tables_of(model: nn.Module) -> Iterator[nn.Parameter]:
    """What is looked up, and what a bank reads; a head that is tied to one is that one."""
    for module in model.modules():
        if isinstance(module, LOOKUPS):
            yield from module.parameters(recurse=False)
    for bank in banks_of(model):
        for columns in bank.columns:
            table = columns.table()
            if isinstance(table, nn.Parameter):
                yield table


def _gains(model: nn.Module) -> Iterator[nn.Parameter]:
    """Learned factors, which have the dimensions of the weights that they broadcast to."""
    for bank in banks_of(model):
        for relaxation in bank.relaxations:
            if isinstance(relaxation.gain, nn.Parameter):
                yield relaxation.gain
