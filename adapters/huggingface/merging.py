"""Integration with PEFT: adapters are not merged into derived weights.

PEFT merges by writing into a layer's weight. Into a derived one that would be lost with the next
call, without a word; into a table it would change every weight that is derived from it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from torch import nn

from embshare.errors import DerivedWeightError
from embshare.runtime.bank import bank_of
from embshare.runtime.shared_layers import SharedLayer

__all__ = ["attach", "detach", "introduce"]

CHECK: Final = "_check_merge_allowed"
"""Method that PEFT calls on any adapter before it merges."""


def introduce() -> None:
    """Add a question to those that PEFT asks before it merges."""
    tuner = sys.modules["peft.tuners.tuners_utils"].BaseTuner
    allowed = getattr(tuner, CHECK)
    if not hasattr(allowed, "__wrapped__"):
        setattr(tuner, CHECK, _and_not_shared(allowed))


def attach(model: nn.Module) -> None:
    """Do nothing: adapters come later."""


def detach(model: nn.Module) -> None:
    """Do nothing: adapters can be merged into a dense model."""


def _and_not_shared(allowed: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(allowed)
    def check(tuner: Any) -> None:
        check_merge(tuner.model)
        allowed(tuner)

    return check


def check_merge(model: nn.Module) -> None:
    """Hold a model with adapters in it to having none on what sharing reads or writes.

    Raises:
        DerivedWeightError: an adapter is on a layer with derived weights, or on their table.
    """
    bank = bank_of(model)
    if bank is None:
        return
    tables = {id(columns.table()) for columns in bank.columns}
    for name, layer in _adapted(model):
        if isinstance(layer, SharedLayer):
            raise _lost(name, "its weight is derived from a table")
        if any(id(parameter) in tables for parameter in layer.parameters(recurse=False)):
            raise _lost(name, "other layers' weights are derived from its own")


def _adapted(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that adapters wrap, whatever else those hold."""
    for name, module in model.named_modules():
        base = module._modules.get("base_layer")
        if base is not None:
            yield name, base


def _lost(name: str, why: str) -> DerivedWeightError:
    return DerivedWeightError(
        f"the adapter of `{name}` cannot be merged: {why}. Call "
        f"embshare.materialize(model, inplace=True) first, and merge into the plain model."
    )
