"""Looks at what is trained, and by whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from embshare.checks.findings import Finding, found
from embshare.checks.looks import Rooted
from embshare.runtime.current_plan import frozen_layers
from embshare.runtime.factorized import FactorMap
from embshare.runtime.stale_optimizers import held_of_removed

__all__ = ["frozen", "optimized", "sharded", "surroundings"]

SHOWN: Final = 3


def frozen(at: Rooted) -> Iterator[Finding]:
    """Is what was frozen at rest, and what was not trained?"""
    for path in frozen_layers(at.root, at.bank):
        text = "stores nothing that is trained, and its weights follow a table that is"
        yield found("frozen-moves", at.name(path), text)
    if at.root.training and not any(p.requires_grad for p in at.root.parameters()):
        yield found("nothing-trained", at.place, "is in training mode, and all of it is frozen")
    moves = at.bank.trains()
    own = list(at.bank.relaxations.parameters())
    still = sum(not p.requires_grad for p in own)
    if moves and still:
        text = f"{still} of its {len(own)} gains and residuals are frozen"
        yield found("gains-frozen", at.name("embshare_bank"), text)


def optimized(
    model: nn.Module, roots: Sequence[Rooted], optimizers: Sequence[Optimizer]
) -> Iterator[Finding]:
    """Do the optimizers hold what weights are derived from, and nothing that is gone?"""
    if not optimizers:
        return
    held = {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}
    kind = type(optimizers[0]).__name__
    if stale := sum(held_of_removed(o) for o in optimizers):
        text = f"holds {stale} weights that the model does not have any more"
        yield found("optimizer-stale", kind, text)
    if not any(id(p) in held for p in model.parameters()):
        text = f"holds none of the parameters of this {type(model).__name__}"
        yield found("optimizer-foreign", kind, text)
        return
    names = {id(p): name for name, p in model.named_parameters()}
    missed = [
        names.get(id(p), "a parameter")
        for at in roots
        for p in _derived_from(at)
        if p.requires_grad and id(p) not in held
    ]
    if missed:
        shown = ", ".join(f"`{name}`" for name in missed[:SHOWN])
        more = f" and {len(missed) - SHOWN} more" if len(missed) > SHOWN else ""
        text = f"does not hold {shown}{more}, which weights are derived from and which is trainable"
        yield found("optimizer-misses", kind, text)
    yield from _sparse(roots, optimizers)


def _derived_from(at: Rooted) -> list[Tensor]:
    maps = [module for module in at.root.modules() if isinstance(module, FactorMap)]
    every = [*at.bank.trained()]
    every += [p for module in (at.bank, *maps) for p in module.parameters()]
    return list({id(p): p for p in every}.values())


def _sparse(roots: Sequence[Rooted], optimizers: Sequence[Optimizer]) -> Iterator[Finding]:
    held = {
        id(p)
        for o in optimizers
        if isinstance(o, torch.optim.SparseAdam)
        for group in o.param_groups
        for p in group["params"]
    }
    for at in roots:
        for columns in at.bank.columns:
            if any(id(tensor) in held for tensor in columns.stored()):
                text = "is held by SparseAdam, and its gradient is dense"
                yield found("optimizer-sparse", at.name(columns.source.name), text)


def sharded(at: Rooted) -> Iterator[Finding]:
    """Is all that weights are derived from gathered before they are?"""
    needed = {at.bank, *(columns.__dict__["owner"] for columns in at.bank.columns)}
    for path, module in at.root.named_modules():
        # By name: whoever shards has imported it, and nobody else shall.
        group = any(base.__name__ == "FSDPModule" for base in type(module).__mro__)
        if group and module is not at.root and needed & set(module.modules()):
            text = "is a group of FSDP that has what weights are derived from"
            yield found("sharded-apart", at.name(path), text)


def surroundings(model: nn.Module, roots: Sequence[Rooted]) -> Iterator[Finding]:
    """Is something around or in the model that cannot work with derived weights?"""
    for path, module in model.named_modules():
        if isinstance(module, nn.DataParallel):
            yield found("data-parallel", path or type(module).__name__, "is an nn.DataParallel")
    for at in roots:
        for path, module in at.root.named_modules():
            if getattr(module, "qconfig", None) is not None:
                place = at.name(path) or at.place
                yield found("quantised", place, "has a `qconfig`")
                return
