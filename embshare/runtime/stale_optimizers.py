"""Warn of optimizers that were made before a model was shared, once, at their first step.

They hold the parameters that sharing removed, which nothing reads any more, and not the projection
that the new weights come from: training seems to run, and half of the model stays as it began.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from embshare._warnings import notify
from embshare.errors import StaleOptimizerWarning

__all__ = ["held_of_removed", "watch_removed"]

_removed: dict[int, weakref.ReferenceType[Tensor]] = {}
_seen: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()
"""Optimizers that were looked at, and after how many removals."""
_removals: list[int] = [0]
_watching: list[object] = []


def watch_removed(parameters: Iterable[nn.Parameter]) -> None:
    """Warn of every optimizer that steps one of these parameters, which a model had before."""
    _removals[0] += 1
    for parameter in parameters:
        key = id(parameter)
        _removed[key] = weakref.ref(parameter, functools.partial(_forget, key))
    if not _watching:  # one hook for the process; where nothing was removed it has nothing to do
        _watching.append(register_optimizer_step_pre_hook(_look))


def _forget(key: int, _: object) -> None:
    _removed.pop(key, None)


def held_of_removed(optimizer: Optimizer) -> int:
    """How many parameters an optimizer holds that sharing removed."""
    return sum(_is_removed(p) for group in optimizer.param_groups for p in group["params"])


def _is_removed(parameter: Tensor) -> bool:
    found = _removed.get(id(parameter))
    return found is not None and found() is parameter


def _look(optimizer: Optimizer, _args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> None:
    if not _removed or torch.compiler.is_compiling():
        return
    if _seen.get(optimizer, 0) >= _removals[0]:
        return
    _seen[optimizer] = _removals[0]
    if number := held_of_removed(optimizer):
        _seen[optimizer] = sys.maxsize  # once is enough
        notify(
            f"this {type(optimizer).__name__} steps {number} weights that the model no longer has, "
            f"and so not what its layers read: it was made before the model was shared (or "
            f"materialized). Make a new one from model.parameters().",
            StaleOptimizerWarning,
        )
