"""`share_from_embedding`: carry a plan out, all or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import nn

from embshare._keys import ROOT
from embshare.blocks.making import materials_of
from embshare.config import ShareConfig
from embshare.errors import AlreadySharedError, InvalidValueError, PlanMismatchError
from embshare.generation import keep_while_generating
from embshare.integrations import attach, home_of
from embshare.ops.autocast import is_cast
from embshare.plan.layer_rules import RULES, Rules
from embshare.plan.planner import plan_sharing
from embshare.plan.requirements import checked_config, dense_home, unshared_rest
from embshare.plan.slots import Slot, Source
from embshare.plan.values import SharePlan
from embshare.runtime.bank import Bank, bank_of, roots_of
from embshare.runtime.current_plan import mark_trained
from embshare.runtime.factorized import Factorization, factorize
from embshare.runtime.forward_scope import open_calls
from embshare.runtime.loading import check_loading
from embshare.runtime.offloading import refuse_offloaded
from embshare.runtime.owner import Reader, first_weights
from embshare.runtime.shared_layers import share_layer
from embshare.runtime.stale_optimizers import watch_removed
from embshare.runtime.tied_state_dict import hide_aliases
from embshare.start.fit_errors import record_errors
from embshare.start.fitting import Start, fit
from embshare.wrapping import copy_of, unwrapped

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
    trained: bool | None = None,
) -> M:
    """Rewrite a model's layers so that their weights are derived from what they share: its own
    embedding table, or one parameter for all that are tied.

    Args:
        model: any module (with a table, where the method reads one), on any device, meta
            included. A `SentenceTransformer`
            or `CrossEncoder` has the model of transformers inside it shared.
        config: settings, or a plan made for this model (or one of the same structure).
        inplace: False leaves ``model`` as it is and returns a shared copy.
        rules: layer kind -> rule, where ``config`` is not a plan.
        calibration: with a start by svd and residuals, inputs to run the model on (a tuple is
            positional, a mapping keyword arguments); each residual is then fitted to what its
            layer puts out, not to the elements of its weight.
        generator: of the random start; None is torch's global one.
        start: False leaves the new parameters without values, for a loader to fill.
        trained: whether the weights are trained; as of `plan_sharing`, where ``config`` is no plan.
    Returns:
        The shared model. Shared again by the same plan or config it is returned unchanged.
    Raises:
        AlreadySharedError: shared by another plan.
        PlanMismatchError: the plan names weights that the model lacks, or of other shapes.
        PlanError: as `plan_sharing`, where a config is given.
        OffloadedError: hooks of accelerate have moved values away.
        InvalidValueError: ``calibration`` where the start is random or there are no residuals, or
            ``init="svd"`` on meta.
    """
    config = checked_config(model, config, what="share_from_embedding")
    refuse_offloaded(model, "share")
    if bank_of(model) is not None:
        _check_shared(model, config, rules)
        return model if inplace else copy_of(model)
    home = dense_home(model)
    plan = (
        config
        if isinstance(config, SharePlan)
        else plan_sharing(model, config, rules=rules, trained=trained)
    )
    if calibration is not None and plan.start != "svd":
        fault = f"calibration needs init='svd', but the start is random: {plan.init_reason}"
        raise InvalidValueError(what="share_from_embedding", faults=[fault])
    if calibration is not None and not plan.config.residual_rank:
        fault = "calibration needs residuals, which it fits: set `residual_rank`"
        raise InvalidValueError(what="share_from_embedding", faults=[fault])
    _check(home, plan)
    if start:
        _check_frozen(home, plan)
    fitted = None
    if start and plan.start == "svd":
        fitted = fit(home, plan, calibration, generator)
    target = model if inplace else copy_of(model)
    _apply(dense_home(target), plan, _start(start, fitted, generator))
    if fitted is not None:
        record_errors(target, fitted.weights)
    return target


def _check_shared(model: nn.Module, wanted: ShareConfig | SharePlan, rules: Rules) -> None:
    """Hold a model that is shared, or holds shared ones, to being shared as wanted, and whole.

    Raises:
        AlreadySharedError: it is shared otherwise, is a part of a shared model, or has other
            weights that are not.
    """
    model = home_of(unwrapped(model))  # a wrapper's other parts are not shared with it
    rest = unshared_rest(model, rules)
    for _, root, bank in roots_of(model):
        if not _is_of(bank.plan, wanted) and not _is_of(bank.scales.plan, wanted):
            raise AlreadySharedError(model=type(root).__name__)
    if rest:
        inner = next(f"`{name}`" if name else "it" for name, _, _ in roots_of(model))
        finding = f"shared in part: {inner} is, `{rest[0]}`"
        finding += f" and {len(rest) - 1} more weights are not" if len(rest) > 1 else " is not"
        raise AlreadySharedError(model=type(model).__name__, finding=finding)


def _check_frozen(model: nn.Module, plan: SharePlan) -> None:
    """Hold a plan to deriving no frozen weight from what is trained, or beside it.

    Raises:
        PlanMismatchError: it does; a plan that is made now leaves such weights dense.
    """
    found = dict(model.named_parameters(remove_duplicate=False))
    for number, source in enumerate(plan.sources):
        weights = [name for slot in plan.of_source(number) for name in slot.weights]
        frozen = [name for name in weights if not found[name].requires_grad]
        if frozen and (found[source.name].requires_grad or len(frozen) < len(weights)):
            raise PlanMismatchError(
                place=frozen[0], needs="trained as its table is", finding="frozen"
            )
    for slot in plan.slots:
        frozen = [name for name in slot.weights if not found[name].requires_grad]
        if slot.source is None and 0 < len(frozen) < len(slot.weights):
            raise PlanMismatchError(
                place=frozen[0], needs="trained as others of its slot are", finding="frozen"
            )


def _is_of(plan: SharePlan, wanted: ShareConfig | SharePlan) -> bool:
    """Whether a model is shared as wanted; how good its fit was is no matter."""
    if isinstance(wanted, SharePlan):
        return wanted.unfitted() == plan.unfitted()
    return wanted == plan.config


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
    modules = dict(model.named_modules(remove_duplicate=False))
    readers, by_layer = _readers(model, plan, modules)
    factorizations = [
        Factorization.prepare(source, modules, plan.config) if plan.config.factor else None
        for source in plan.sources
    ]
    bank = Bank(plan, materials_of(plan, modules, first_weights(readers)), readers)
    begin(bank, factorizations)
    _freeze_with_weights(bank, factorizations)
    # From here on nothing can fail.
    mark_trained(model, by_layer, plan)
    watch_removed(_removed(by_layer, factorizations))
    for made in factorizations:
        if made is not None:
            factorize(made)
    for layer, names in by_layer.items():
        share_layer(layer, names, bank.ref)
    # Why: docs/explanation/decisions/bank-at-the-root.md
    _host(model, plan, modules).add_module(BANK, bank)
    model.__dict__[ROOT] = bank.ref
    _open_calls(model, by_layer, bank)
    hide_aliases(model)
    keep_while_generating(model)
    attach(model)
    check_loading(model)


def _freeze_with_weights(bank: Bank, made: Sequence[Factorization | None]) -> None:
    """What nothing but frozen weights is made of, and no trained table, trains nothing."""
    trained = {reader.slot for reader in bank.readers if reader.requires_grad}
    for number, material in enumerate(bank.materials):
        slots = {n for n, slot in enumerate(bank.plan.slots) if slot.material == number}
        rest = material.rest(slots - trained, slots & trained)
        for n, reader in enumerate(bank.readers):
            if bank.relaxations and reader.slot in rest:
                bank.relaxations[n].requires_grad_(False)
        if rest and number < len(made) and (factorization := made[number]) is not None:
            factorization.map.requires_grad_(False)


def _removed(
    by_layer: dict[nn.Module, dict[str, int]], factorizations: Sequence[Factorization | None]
) -> Iterator[nn.Parameter]:
    """Parameters that the model will not have any more."""
    for layer, names in by_layer.items():
        yield from (p for p in (layer._parameters[name] for name in names) if p is not None)
    for made in factorizations:
        if made is not None and (old := made.embedding._parameters["weight"]) is not None:
            yield old


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
                trained, cast = parameter.requires_grad, is_cast(layer, leaf)
                readers.append(Reader(number, [], 0, trained, cast))
            readers[index_of[parameter]].names += 1
            if leaf not in by_layer.setdefault(layer, {}):  # one layer may have two names
                readers[index_of[parameter]].places.append((layer, leaf))
                by_layer[layer][leaf] = index_of[parameter]
    return readers, by_layer


def _host(model: nn.Module, plan: SharePlan, modules: dict[str, nn.Module]) -> nn.Module:
    """The root owns the bank, unless it runs or counts whatever children it has: then a table's
    module does, or the first layer that is shared."""
    if isinstance(model, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        names = (*(source.name for source in plan.sources), plan.slots[0].weights[0])
        return modules[names[0].rpartition(".")[0]]
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
        open_calls(module, bank.ref, tuple(held))
