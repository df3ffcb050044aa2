"""What a model has: its parameters under all their names, its tables, its known weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from embshare.errors import AliasedWeightError, NoSourceError, PlanError, UnsupportedSourceError
from embshare.plan.layer_rules import Rules, rule_for

__all__ = [
    "LOOKED_UP",
    "LOOKUPS",
    "UNKNOWN",
    "Candidate",
    "Inventory",
    "deviation",
    "find_table",
    "take_inventory",
]

LOOKUPS = (nn.Embedding, nn.EmbeddingBag)
LOOKED_UP: Final = "an embedding looks its rows up"
UNKNOWN: Final = "not a known layer kind"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A parameter of two or more dimensions, under all its names."""

    names: tuple[str, ...]
    parameter: nn.Parameter
    transposed: bool
    channel: int
    kind: bool
    """Every layer that holds it is of a known kind."""
    obstacle: str | None
    """Why it cannot be derived, whatever the patterns say."""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Parameters and modules of a model, which is not changed."""

    modules: Mapping[str, nn.Module]
    names: Mapping[nn.Parameter, tuple[str, ...]]
    candidates: tuple[Candidate, ...]

    def owner(self, name: str) -> nn.Module:
        """The module that holds the parameter of this full name."""
        return self.modules[name.rpartition(".")[0]]


def take_inventory(model: nn.Module, rules: Rules) -> Inventory:
    """List what a model has, in the order of its parameters.

    Raises:
        AliasedWeightError: two parameters overlap in memory.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, []).append(name)
    _refuse_overlaps({parameter: group[0] for parameter, group in names.items()})
    frozen = {parameter: tuple(group) for parameter, group in names.items()}
    found = tuple(
        _candidate(parameter, group, modules, rules)
        for parameter, group in frozen.items()
        if parameter.dim() >= 2 and parameter.numel()
    )
    return Inventory(modules=modules, names=frozen, candidates=found)


def _candidate(
    parameter: nn.Parameter, names: tuple[str, ...], modules: Mapping[str, nn.Module], rules: Rules
) -> Candidate:
    directions: set[bool] = set()
    known = True
    obstacle = None
    channel = 0
    for name in names:
        owner, _, leaf = name.rpartition(".")
        layer = modules[owner]
        if isinstance(layer, LOOKUPS):
            obstacle = LOOKED_UP
        rule = rule_for(layer, rules)
        if rule is None or leaf not in rule.weights(layer):
            known = False
            directions.add(False)
        else:
            channel = rule.channel
            directions.add(rule.transposed or _is_normed_linear(layer, owner, modules))
    if len(directions) > 1:
        obstacle = obstacle or f"its readers {names} lay it out differently"
    if not parameter.is_floating_point():
        obstacle = obstacle or f"its elements are {parameter.dtype}, not floating"
    return Candidate(
        names=names,
        parameter=parameter,
        transposed=directions == {True},
        channel=channel,
        kind=known,
        obstacle=obstacle,
    )


def _is_normed_linear(layer: nn.Module, owner: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether this is the parametrization list of a Linear's weight."""
    if not isinstance(layer, ParametrizationList):
        return False
    return isinstance(
        modules[owner.removesuffix(".weight").removesuffix(".parametrizations")], nn.Linear
    )


def _refuse_overlaps(names: Mapping[nn.Parameter, str]) -> None:
    spans = []
    for parameter, name in names.items():
        if parameter.device.type == "meta" or not parameter.numel():
            continue
        start = parameter.data_ptr()
        reach = 1 + sum(
            (n - 1) * s for n, s in zip(parameter.shape, parameter.stride(), strict=True)
        )
        spans.append((parameter.device.type, start, start + reach * parameter.element_size(), name))
    spans.sort()
    for left, right in pairwise(spans):
        if left[0] == right[0] and right[1] < left[2]:
            raise AliasedWeightError(first=left[3], second=right[3])


def find_table(model: nn.Module, inventory: Inventory, source: str) -> str:
    """The full parameter name of a table: ``auto``, an embedding's or a parameter's name.

    ``auto`` is what the model's own ``get_input_embeddings()`` returns, or else its largest
    ``nn.Embedding``.

    Raises:
        NoSourceError: there is none, or none of that name.
        UnsupportedSourceError: it is not a floating parameter of two or more dimensions.
    """
    tables = [n for n, m in inventory.modules.items() if isinstance(m, LOOKUPS) and m._parameters]
    name = _own_table(model, inventory) if source == "auto" else source
    if name is None and tables:
        name = max(tables, key=lambda n: _size(inventory.modules[n]))
    found = {n: p for p, group in inventory.names.items() for n in group}
    full = next(
        (n for n in (name, f"{name}.weight", "weight") if n in found and name is not None), None
    )
    if name is None or full is None or (full == "weight" and name not in ("", "weight")):
        raise NoSourceError(source=source, model=type(model).__name__, found=tables)
    _check_table(full, found[full])
    aliases = inventory.names[found[full]]
    looked_up = (n for n in aliases if isinstance(inventory.owner(n), LOOKUPS))
    return full if isinstance(inventory.owner(full), LOOKUPS) else next(looked_up, full)


def _size(table: nn.Module) -> int:
    return sum(p.numel() for p in table.parameters(recurse=False))


def _own_table(model: nn.Module, inventory: Inventory) -> str | None:
    getter: Callable[[], object] | None = getattr(model, "get_input_embeddings", None)
    if getter is None:
        return None
    try:
        table = getter()
    except (NotImplementedError, AttributeError):
        return None
    if not isinstance(table, LOOKUPS):
        return None
    return next((name for name, module in inventory.modules.items() if module is table), None)


def _check_table(name: str, table: nn.Parameter) -> None:
    if table.dim() < 2 or not table.numel():
        raise UnsupportedSourceError(
            source=name,
            need="non-empty and of two or more dimensions",
            finding=f"of shape {tuple(table.shape)}",
        )
    if not table.is_floating_point():
        raise UnsupportedSourceError(source=name, need="floating", finding=str(table.dtype))


def deviation(tensor: torch.Tensor) -> float | None:
    """Standard deviation around zero of a tensor's elements; None on meta or where it is zero.

    Raises:
        PlanError: an element is not finite.
    """
    if tensor.device.type == "meta":
        return None
    std = float(tensor.detach().float().square().mean().sqrt())
    if not math.isfinite(std):
        raise PlanError(
            "a weight or table has elements that are not finite: repair the model, "
            "or use gain='none' to plan without looking at them."
        )
    return std or None
