"""Prepare a shared model for transformers, which fills parameters by name, and restore it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from embshare.errors import CheckpointError
from embshare.plan.migrate import Kept
from embshare.runtime.bank import BLOCKS, RELAXATIONS, require_bank
from embshare.runtime.factorized import as_factored, as_stored, is_factored
from embshare.runtime.shared_layers import SharedLayer
from embshare.runtime.tied_state_dict import hide_aliases, show_aliases

__all__ = ["names_of", "prepare", "restore", "tie"]


def prepare(model: nn.Module, numbers: Kept) -> None:
    """Give a model every name that transformers fills or ties, with the stored parameter.

    Tied parameters are listed under each of their names, a factorised embedding has its stored
    table, and learned gains and blocks their numbers in the folder. No derived weight is asked for:
    transformers would draw it, perhaps before its table is there.

    Args:
        model: shared model on meta.
        numbers: numbers of its weights and slots among those of the saved plan.
    """
    show_aliases(model)
    require_bank(model).filling = True
    _number(model, numbers)
    for module in model.modules():
        if is_factored(module):
            as_stored(module)
        if isinstance(module, SharedLayer):
            module._is_hf_initialized = True


def restore(model: nn.Module) -> None:
    """Undo `prepare`."""
    bank = require_bank(model)
    _number(model, Kept(tuple(range(len(bank.readers))), tuple(range(len(bank.scales.plan.slots)))))
    for module in model.modules():
        if is_factored(module):
            as_factored(module)
    hide_aliases(model)
    require_bank(model).filling = False


def _number(model: nn.Module, numbers: Kept) -> None:
    bank = require_bank(model)
    for part, kept in ((RELAXATIONS, numbers.readers), (BLOCKS, numbers.slots)):
        for named in _named(bank._modules.get(part)):
            if own := list(named.values()):
                named.clear()
                named.update(zip(map(str, kept), own, strict=True))


def _named(module: nn.Module | None) -> Iterator[dict[str, Any]]:
    """What a module holds under numbers."""
    if module is not None:
        yield from (module._modules, module._parameters)


def tie(model: nn.Module, ties: Mapping[str, str]) -> None:
    """Make parameters one, whatever the configuration says.

    Args:
        model: model; parameters that it does not have are skipped.
        ties: name -> name of the parameter that replaces it.
    Raises:
        CheckpointError: they are of different shapes.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    for alias, first in ties.items():
        owner, _, leaf = alias.rpartition(".")
        source, _, stored = first.rpartition(".")
        if owner in modules and source in modules:
            mine, theirs = modules[owner]._parameters, modules[source]._parameters
            if leaf in mine and stored in theirs:
                _check_same(alias, mine[leaf], first, theirs[stored])
                mine[leaf] = theirs[stored]


def _check_same(alias: str, mine: Any, first: str, theirs: Any) -> None:
    if mine.shape != theirs.shape:
        raise CheckpointError(
            path=alias,
            finding=f"of shape {tuple(mine.shape)} is tied to `{first}` of {tuple(theirs.shape)}",
            hint="Save the model again, or take another copy of the folder.",
        )


def names_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Every parameter's name -> all names of that parameter."""
    found = dict(model.named_parameters(remove_duplicate=False))
    groups: dict[int, tuple[str, ...]] = {}
    for name, parameter in found.items():
        groups[id(parameter)] = (*groups.get(id(parameter), ()), name)
    return {name: groups[id(parameter)] for name, parameter in found.items()}
