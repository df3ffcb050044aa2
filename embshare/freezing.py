"""`freeze` and `unfreeze`: derived weights that stop following the table, and follow it again."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from typing import Final

import torch
from torch import nn

from embshare.errors import NothingMatchedError, NotSharedError
from embshare.runtime.bank import Bank, BankRef, banks_of, roots_of
from embshare.runtime.current_plan import Place, places
from embshare.runtime.shared_layers import share_layer, unshare_layer
from embshare.wrapping import unwrapped

__all__ = ["FROZEN", "freeze", "unfreeze"]

FROZEN: Final = "_embshare_frozen"
"""In a layer: the `BankRef` and, by name, the readers that its frozen weights were."""


@torch.no_grad()
def freeze(model: nn.Module, *patterns: str) -> tuple[str, ...]:
    """Keep weights as they are now, while the table that others are derived from is trained.

    A derived weight has no ``requires_grad`` by itself: it moves with its table and projection. A
    frozen one becomes a parameter of its layer, with the present values and without a gradient; it
    is stored then, as `summarize` shows. Stored parameters that a pattern names (biases, norms) are
    frozen too, except those that others are derived from.

    Args:
        model: shared, or the parent or wrapper of shared models.
        patterns: globs over parameter names of ``model``, or of a shared model in it; without
            any, all of them.
    Returns:
        The names of the derived weights that were frozen.
    Raises:
        NotSharedError: nothing in the model is derived.
        NothingMatchedError: a pattern names no derived weight; nothing was frozen.
    """
    model = unwrapped(model)
    if not banks_of(model):
        raise NotSharedError(model=type(model).__name__)
    patterns = patterns or ("*",)
    chosen = _choose(model, patterns)
    made: dict[tuple[int, int], nn.Parameter] = {}
    weights = {id(bank): bank.read_all() for bank in {bank for bank, _ in chosen}}
    for bank, place in chosen:
        key = (id(bank), place.reader)
        if key not in made:
            weight = (
                weights[id(bank)][place.reader]
                .detach()
                .clone(memory_format=torch.contiguous_format)
            )
            made[key] = nn.Parameter(weight, requires_grad=False)
        if place.leaf not in place.layer._parameters:  # under another name it is done already
            unshare_layer(place.layer, {place.leaf: made[key]})
            bank.forget(place.reader, place.layer, place.leaf)
            readers = place.layer.__dict__.setdefault(FROZEN, (bank.ref, {}))[1]
            readers[place.leaf] = place.reader
    read = {id(t) for bank in banks_of(model) for t in bank.trained()}
    read |= {id(p) for bank in banks_of(model) for p in bank.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) not in read and any(fnmatch.fnmatchcase(name, glob) for glob in patterns):
            parameter.requires_grad_(False)
    return tuple(place.name for _, place in chosen)


def _choose(model: nn.Module, patterns: Iterable[str]) -> list[tuple[Bank, Place]]:
    everything: list[tuple[Bank, Place, tuple[str, ...]]] = [
        (bank, place, (place.name, f"{path}.{place.name}" if path else place.name))
        for path, root, bank in roots_of(model)
        for place in places(root, bank)
    ] or [(bank, place, (place.name,)) for bank in banks_of(model) for place in places(model, bank)]
    for glob in patterns:
        if not any(fnmatch.fnmatchcase(name, glob) for _, _, names in everything for name in names):
            examples = [names[-1] for _, _, names in everything[:3]]
            raise NothingMatchedError(field="freeze", pattern=glob, examples=examples)
    return [
        (bank, place)
        for bank, place, names in everything
        if any(fnmatch.fnmatchcase(name, glob) for glob in patterns for name in names)
    ]


def unfreeze(model: nn.Module, *patterns: str) -> tuple[str, ...]:
    """Have weights that were frozen follow the table again, from where the table is now.

    Args:
        model: as of `freeze`.
        patterns: globs over parameter names of ``model``; without any, all of them. Stored
            parameters are trained again too.
    Returns:
        The names of the weights that are derived again; their frozen values are gone.
    Raises:
        NothingMatchedError: a pattern names no frozen weight; nothing was changed.
    """
    model, patterns = unwrapped(model), patterns or ("*",)
    found = list(_frozen(model))
    for glob in patterns:
        if not any(fnmatch.fnmatchcase(name, glob) for name, _, _, _ in found):
            examples = [name for name, _, _, _ in found[:3]]
            raise NothingMatchedError(field="unfreeze", pattern=glob, examples=examples)
    back = [entry for entry in found if any(fnmatch.fnmatchcase(entry[0], g) for g in patterns)]
    for _, layer, leaf, ref in back:
        readers = layer.__dict__[FROZEN][1]
        reader, bank = readers.pop(leaf), ref.get()
        share_layer(layer, {leaf: reader}, ref)
        bank.remember(reader, layer, leaf)
        if not readers:
            del layer.__dict__[FROZEN]
    for name, parameter in model.named_parameters():
        if any(fnmatch.fnmatchcase(name, glob) for glob in patterns):
            parameter.requires_grad_(True)
    return tuple(name for name, _, _, _ in back)


def _frozen(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, BankRef]]:
    for path, layer in model.named_modules():
        if FROZEN in layer.__dict__:
            ref, readers = layer.__dict__[FROZEN]
            for leaf in readers:
                yield f"{path}.{leaf}" if path else leaf, layer, leaf, ref
