"""`materialize`: layers of the original classes, with clones of the derived weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from embshare._keys import KEY, ROOT
from embshare.errors import MaterializeError, NotSharedError
from embshare.freezing import FROZEN
from embshare.generation import stop_keeping
from embshare.integrations import detach
from embshare.runtime.bank import Bank, BankRef
from embshare.runtime.current_plan import TRAINED, Place, places
from embshare.runtime.factorized import is_factored, unfactorize
from embshare.runtime.forward_scope import close_calls
from embshare.runtime.loading import forget_loading
from embshare.runtime.offloading import refuse_offloaded
from embshare.runtime.shared_layers import derived_names, unshare_layer
from embshare.runtime.stale_optimizers import watch_removed
from embshare.runtime.tied_state_dict import show_aliases
from embshare.wrapping import copy_of, unwrapped

__all__ = ["materialize"]

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def materialize(model: M, *, inplace: bool = False) -> M:
    """Turn a shared model into the dense model that computes the same.

    Every derived weight becomes a separate parameter, bitwise equal and aliasing nothing; layers
    get their classes, and their parameters' order, back; a factorised table is multiplied out.
    Weights that the model itself tied are tied again. (With ``factor_norm``, a head tied to the
    table becomes a separate one: it never scored against the normalised rows.)

    Args:
        model: shared; or a parent of shared models, all of which are materialized; or a part of
            one, which becomes independent of the rest. Of a compiled model or DDP, the model
            inside.
        inplace: True changes ``model`` itself.
    Returns:
        The dense model, independent of the shared one.
    Raises:
        NotSharedError: nothing in the model is derived.
        MaterializeError: a weight changed while it was read; the model was left shared.
        OffloadedError: hooks of accelerate have moved values away.
    """
    inner = cast("M", unwrapped(model))
    if not any(KEY in module.__dict__ for module in inner.modules()):
        raise NotSharedError(model=type(inner).__name__)
    refuse_offloaded(inner, "materialize")
    target = inner if inplace else copy_of(inner)
    banks = _banks(target)
    found = {bank: list(places(target, bank)) for bank in banks}
    weights = {bank: _read_all(bank, {p.reader for p in found[bank]}) for bank in banks}
    tables = _tables(target)
    owned = {module for module in target.modules() if isinstance(module, Bank)}
    for bank in banks:
        _unshare(bank, found[bank], weights[bank])
    for module in list(target.modules()):
        if is_factored(module) and (owned or not inplace):
            unfactorize(module, tables[module])
    for bank in owned:
        watch_removed(bank.parameters())
    _remove(target, owned)
    detach(target)
    return target


def _banks(model: nn.Module) -> list[Bank]:
    """What the layers of a model read; a copy of a part reads the original's without a word."""
    refs: list[BankRef] = [m.__dict__[KEY] for m in model.modules() if KEY in m.__dict__]
    for ref in refs:
        ref.borrowed = False
    return list(dict.fromkeys(ref.get() for ref in refs))


def _read_all(bank: Bank, readers: Iterable[int]) -> dict[int, Tensor]:
    found, again = bank.read_all(), bank.read_all()
    weights: dict[int, Tensor] = {}
    for index in sorted(readers):
        weight, other = found[index], again[index]
        same = (weight == other) | (weight.isnan() & other.isnan())
        if weight.device.type != "meta" and not same.all():
            layer, name = bank.readers[index].places[0]
            place = f"{name} of {type(layer).__name__}"
            raise MaterializeError(weight=place, difference=float((weight - other).abs().max()))
        weights[index] = weight.clone(memory_format=torch.contiguous_format)
    return weights


def _tables(model: nn.Module) -> dict[nn.Module, nn.Parameter]:
    """What each factorised embedding or head gets; one parameter where the values are equal."""
    made: dict[nn.Module, nn.Parameter] = {}
    first: dict[tuple[int, bool], nn.Parameter] = {}
    for module in model.modules():
        if not is_factored(module):
            continue
        table = module._parameters["weight"]
        assert table is not None
        factor = module.__dict__["_embshare_factor"]
        linear = factor.norm_in is not None and isinstance(module, nn.Linear)
        key = (id(table), linear)
        if key not in first:
            wide = table @ factor.weight.t() if linear else factor(table)
            first[key] = nn.Parameter(wide, requires_grad=table.requires_grad)
        made[module] = first[key]
    return made


def _unshare(bank: Bank, found: Iterable[Place], weights: dict[int, Tensor]) -> None:
    """One parameter for what the model ties; a copied layer gets a separate one."""
    tied: dict[int, nn.Parameter] = {}
    parameters: dict[nn.Module, dict[str, nn.Parameter]] = {}
    for place in found:
        reader = bank.readers[place.reader]
        if (place.layer, place.leaf) in reader.places and place.reader in tied:
            parameter = tied[place.reader]
        else:
            weight = weights[place.reader]
            weight = weight if place.reader not in tied else weight.clone()
            parameter = nn.Parameter(weight, requires_grad=reader.requires_grad)
            tied.setdefault(place.reader, parameter)
        parameters.setdefault(place.layer, {}).setdefault(place.leaf, parameter)
    for layer, own in parameters.items():
        for leaf in own:
            bank.forget(derived_names(layer)[leaf], layer, leaf)
        unshare_layer(layer, own)


def _remove(model: nn.Module, owned: set[Bank]) -> None:
    for module in list(model.modules()):
        close_calls(module)
        for key in (ROOT, FROZEN, TRAINED):
            module.__dict__.pop(key, None)
        for name, child in list(module._modules.items()):
            if child in owned:
                del module._modules[name]
        show_aliases(module)
        forget_loading(module)
        stop_keeping(module)
