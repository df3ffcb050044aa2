"""`materialize`: plain layers of the original classes, with clones of the derived weights."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from embshare.aliases import show_aliases
from embshare.bank import Bank
from embshare.caching import cached
from embshare.calls import close_calls
from embshare.companions import detach
from embshare.errors import MaterializeError
from embshare.factor import is_factored, unfactorize
from embshare.generation import stop_keeping
from embshare.layers import unshare_layer
from embshare.offloading import refuse_offloaded
from embshare.state import require_bank

__all__ = ["materialize"]

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def materialize(model: M, *, inplace: bool = False) -> M:
    """Turn a shared model into the plain model that computes the same.

    Every derived weight becomes a parameter of its own, bitwise equal and aliasing nothing; layers
    get their classes, and their parameters' order, back; a factorised table is multiplied out.
    Weights that the model itself tied are tied again. (With ``factor_norm``, a head tied to the
    table becomes one of its own: it never scored against the normalised rows.)

    Args:
        model: as `share_from_embedding` returned it; wrappers (DDP, compile) are not undone.
        inplace: True changes ``model`` itself.
    Returns:
        The plain model, independent of the shared one.
    Raises:
        NotSharedError: the model is dense, or a part of a shared model.
        MaterializeError: a weight changed while it was read; the model was left shared.
        OffloadedError: hooks of accelerate have moved values away.
    """
    require_bank(model)
    refuse_offloaded(model, "materialize")
    target = model if inplace else copy.deepcopy(model)
    bank = require_bank(target)
    weights = _read_all(target, bank)
    tables = _tables(target)
    _unshare(bank, weights)
    for module in list(target.modules()):
        if is_factored(module):
            unfactorize(module, tables[module])
    _remove(target, bank)
    detach(target)
    return target


def _read_all(model: nn.Module, bank: Bank) -> list[Tensor]:
    indices = range(len(bank.readers))
    with cached(model):
        weights = [
            bank.read(index).clone(memory_format=torch.contiguous_format) for index in indices
        ]
    with cached(model):
        for index, weight in enumerate(weights):
            again = bank.read(index)
            same = (weight == again) | (weight.isnan() & again.isnan())
            if weight.device.type != "meta" and not same.all():
                layer, name = bank.readers[index].places[0]
                place = f"{name} of {type(layer).__name__}"
                raise MaterializeError(weight=place, difference=float((weight - again).abs().max()))
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


def _unshare(bank: Bank, weights: list[Tensor]) -> None:
    parameters: dict[nn.Module, dict[str, nn.Parameter]] = {}
    for reader, weight in zip(bank.readers, weights, strict=True):
        parameter = nn.Parameter(weight, requires_grad=reader.requires_grad)
        for layer, name in reader.places:
            parameters.setdefault(layer, {})[name] = parameter
    for layer, own in parameters.items():
        unshare_layer(layer, own)


def _remove(model: nn.Module, bank: Bank) -> None:
    for module in model.modules():
        close_calls(module)
        for name, child in list(module._modules.items()):
            if child is bank:
                del module._modules[name]
        show_aliases(module)
        stop_keeping(module)
