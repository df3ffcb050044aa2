"""What is around a shared model: compiled modules, DDP, a Lightning module, a dense parent."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["copy_of", "layers_of_wrapping", "meta_copy", "plain_name", "unwrapped"]

M = TypeVar("M", bound=nn.Module)

_COMPILED = "_orig_mod"
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where this runs it for somebody: compiled, or in parallel."""
    while True:
        inner = model._modules.get(_COMPILED)
        if inner is None and isinstance(model, _PARALLEL):
            inner = model.module
        if inner is None:
            return model
        model = inner


def layers_of_wrapping(model: nn.Module) -> Iterator[nn.Module]:
    """The model, and each module further in that has all of its parameters and buffers.

    A Lightning module around a network, an adapter's wrapper, DDP: what is inside stores the same,
    under shorter names.
    """
    while True:
        yield model
        own = [*model._parameters.values(), *model._buffers.values()]
        children = [
            child for child in model._modules.values() if child is not None and _state(child)
        ]
        if any(tensor is not None for tensor in own) or len(children) != 1:
            return
        model = children[0]


def _state(module: nn.Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


def plain_name(name: str) -> str:
    """A name without what `torch.compile` puts into it."""
    return name.replace(f"{_COMPILED}.", "")


def copy_of(model: M, memo: dict[int, object] | None = None) -> M:
    """A deep copy, also where a module keeps what it computed last.

    The older `weight_norm` and `spectral_norm` do: such a tensor has a graph, and torch refuses to
    copy it.
    """
    memo = {} if memo is None else memo
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf and id(value) not in memo:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def meta_copy(model: M) -> M:
    """A copy of a model without its memory."""
    memo: dict[int, object] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    return copy_of(model, memo)
