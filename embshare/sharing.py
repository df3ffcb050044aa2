"""`share_from_embedding`: carry a plan out, all or nothing."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import nn

from embshare.aliases import hide_aliases
from embshare.bank import Bank, Reader
from embshare.calls import open_calls
from embshare.casting import is_cast
from embshare.columns import Columns
from embshare.companions import attach
from embshare.config import ShareConfig
from embshare.errors import AlreadySharedError, InvalidValueError, PlanMismatchError
from embshare.factor import Factorization, factorize
from embshare.fingerprint import structure_of
from embshare.fitting import Start, fit
from embshare.generation import keep_while_generating
from embshare.layers import share_layer
from embshare.offloading import refuse_offloaded
from embshare.plan import SharePlan, Slot, Source
from embshare.planning import plan_sharing
from embshare.rules import RULES, Rules
from embshare.state import bank_of

__all__ = ["BANK", "share_from_embedding"]

M = TypeVar("M", bound=nn.Module)

BANK = "embshare_bank"
"""Name of the bank in the model, hence the prefix of its parameters."""


def share_from_embedding(
    model: M,
    config: ShareConfig | SharePlan | None = None,
    *,
    inplace: bool = True,
    rules: Rules = RULES,
    calibration: Sequence[object] | None = None,
    generator: torch.Generator | None = None,
    start: bool = True,
) -> M:
    """Rewrite a model's layers so that their weights are derived from its own embedding table.

    Args:
        model: any module with an embedding, on any device, meta included.
        config: settings, or a plan made for this model (or one of the same structure).
        inplace: False leaves ``model`` as it is and returns a shared copy.
        rules: layer kind -> rule, where ``config`` is not a plan.
        calibration: with ``init="svd"``, inputs to run the model on (a tuple is positional, a
            mapping keyword arguments); errors then count by the activations they multiply.
        generator: of the random start; None is torch's global one.
        start: False leaves the new parameters without values, for a loader to fill.
    Returns:
        The shared model. Shared again by the same plan or config it is returned unchanged.
    Raises:
        AlreadySharedError: shared by another plan.
        PlanMismatchError: the plan names weights that the model lacks, or of other shapes.
        PlanError: as `plan_sharing`, where a config is given.
        OffloadedError: hooks of accelerate have moved values away.
        InvalidValueError: ``calibration`` without ``init="svd"``, or a model on meta with it.
    """
    refuse_offloaded(model, "share")
    bank = bank_of(model)
    if bank is not None:
        wanted = config or ShareConfig()
        if wanted in (bank.plan, bank.plan.config):
            return model if inplace else copy.deepcopy(model)
        raise AlreadySharedError(model=type(model).__name__)
    plan = config if isinstance(config, SharePlan) else plan_sharing(model, config, rules=rules)
    if calibration is not None and plan.config.init != "svd":
        raise InvalidValueError(
            what="share_from_embedding", faults=["calibration needs init='svd'"]
        )
    _check(model, plan)
    fitted = None
    if start and plan.config.init == "svd":
        fitted = fit(model, plan, calibration, generator)
    target = model if inplace else copy.deepcopy(model)
    _apply(target, plan, _start(start, fitted, generator))
    return target


Begin = Callable[[Bank, Sequence[Factorization | None]], None]


def _start(wanted: bool, fitted: Start | None, generator: torch.Generator | None) -> Begin:
    """How the new parameters get their values."""

    def begin(bank: Bank, factorizations: Sequence[Factorization | None]) -> None:
        if not wanted:
            return
        bank.reset(generator)
        for made in factorizations:
            if made is not None:
                made.reset(generator)
        if fitted is not None:
            fitted.load(bank, factorizations)

    return begin


def _check(model: nn.Module, plan: SharePlan) -> None:
    found = dict(model.named_parameters(remove_duplicate=False))
    for slot in plan.slots:
        for name in slot.weights:
            _check_weight(found, name, slot)
    for source in plan.sources:
        for name in (source.name, *source.tied):
            _check_table(found, name, source)


def _check_weight(found: dict[str, nn.Parameter], name: str, slot: Slot) -> None:
    if name not in found:
        raise PlanMismatchError(place=name, needs="a parameter", finding="absent")
    if tuple(found[name].shape) != slot.shape:
        raise PlanMismatchError(
            place=name,
            needs=f"of shape {slot.shape}",
            finding=f"of shape {tuple(found[name].shape)}",
        )


def _check_table(found: dict[str, nn.Parameter], name: str, source: Source) -> None:
    if name not in found:
        raise PlanMismatchError(place=name, needs="a parameter", finding="absent")
    shape = tuple(found[name].shape)
    if len(shape) < 2 or shape[0] < source.rows or math.prod(shape[1:]) != source.dim:
        raise PlanMismatchError(
            place=name,
            needs=f"of shape ({source.rows} or more, {source.dim})",
            finding=f"of shape {shape}",
        )


def _apply(model: nn.Module, plan: SharePlan, begin: Begin) -> None:
    structure = structure_of(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    readers, by_layer = _readers(model, plan, modules)
    factorizations = [
        Factorization.prepare(source, modules, plan.config) if plan.config.factor else None
        for source in plan.sources
    ]
    columns = [
        Columns(
            source,
            modules[source.name.rpartition(".")[0]],
            like=modules[source.name.rpartition(".")[0]]._parameters[
                source.name.rpartition(".")[2]
            ],
            projected=plan.config.method == "veps",
            column_bias=plan.config.column_bias,
        )
        for source in plan.sources
    ]
    bank = Bank(plan, columns, readers, structure)
    begin(bank, factorizations)
    # From here on nothing can fail.
    for made in factorizations:
        if made is not None:
            factorize(made)
    for layer, names in by_layer.items():
        share_layer(layer, names, bank)
    _host(model, plan, modules).add_module(BANK, bank)
    _open_calls(model, by_layer, bank)
    hide_aliases(model)
    keep_while_generating(model)
    attach(model)


def _readers(
    model: nn.Module, plan: SharePlan, modules: dict[str, nn.Module]
) -> tuple[list[Reader], dict[nn.Module, dict[str, int]]]:
    readers: list[Reader] = []
    by_layer: dict[nn.Module, dict[str, int]] = {}
    for number, slot in enumerate(plan.slots):
        index_of: dict[nn.Parameter, int] = {}
        for name in slot.weights:
            owner, _, leaf = name.rpartition(".")
            layer = modules[owner]
            parameter = layer._parameters[leaf]
            assert parameter is not None
            if parameter not in index_of:
                index_of[parameter] = len(readers)
                readers.append(Reader(number, [], parameter.requires_grad, is_cast(layer, leaf)))
            if leaf not in by_layer.setdefault(layer, {}):  # one layer may have two names
                readers[index_of[parameter]].places.append((layer, leaf))
                by_layer[layer][leaf] = index_of[parameter]
    return readers, by_layer


def _host(model: nn.Module, plan: SharePlan, modules: dict[str, nn.Module]) -> nn.Module:
    """The root owns the bank, unless it runs or counts whatever children it has."""
    if isinstance(model, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        return modules[plan.sources[0].name.rpartition(".")[0]]
    return model


def _open_calls(model: nn.Module, by_layer: dict[nn.Module, dict[str, int]], bank: Bank) -> None:
    """Every module that holds shared layers opens a call; a layer of one weight needs no help."""
    for module in model.modules():
        if module is bank or isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            continue
        inside = [layer for layer in module.modules() if layer in by_layer]
        if not inside or (inside == [module] and len(by_layer[module]) == 1):
            continue
        held = sorted({index for layer in inside for index in by_layer[layer].values()})
        open_calls(module, bank, tuple(held))
