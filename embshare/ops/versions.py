"""What torch lets one see of a write to a tensor: its version, its memory, an optimizer's step.

A version counter alone is not enough: an optimizer with ``fused=True`` writes into parameters and
leaves their counters where they were. So steps are counted too, by a hook on all optimizers, for
the tensors that weights are derived from. What neither shows is a write through ``.data``, numpy or
another tensor on the same memory; `embshare.ops.checksum` is for those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

__all__ = ["changes_of", "version_of"]

_steps: dict[int, int] = {}
"""Steps by the tensor's ``id``: as keys, tensors would be compared element by element, and with a
weak reference `torch.utils.swap_tensors` would refuse them. An ``id`` that is reused counts on."""
_hooks: list[object] = []


def changes_of(tensor: Tensor) -> tuple[int, int]:
    """Its version and the optimizer steps since it was first asked about; tensors of inference
    mode have no version."""
    return (0 if tensor.is_inference() else tensor._version), _steps_of(tensor)


def version_of(tensor: Tensor) -> tuple[object, ...]:
    """All that changes with a write, a replacement, a cast or a move that torch lets one see."""
    return (
        id(tensor),
        tensor.data_ptr() if tensor.device.type != "meta" else 0,
        tensor.dtype,
        tensor.shape,
        tensor.stride(),  # ``p.data = p.data.t()`` moves nothing else
        *changes_of(tensor),
    )


def _steps_of(tensor: Tensor) -> int:
    if not _hooks:  # before a step and after it: its closure may derive in between
        _hooks.append(register_optimizer_step_pre_hook(_count))
        _hooks.append(register_optimizer_step_post_hook(_count))
    return _steps.setdefault(id(tensor), 0)


def _count(optimizer: Optimizer, _args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> None:
    if torch.compiler.is_compiling():
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if id(parameter) in _steps:
                _steps[id(parameter)] += 1
