"""Parameters that are elsewhere: on meta, while a hook of accelerate knows where their values are.

A hook of accelerate brings a module's own parameters back for as long as that module runs. Derived
weights are read from parameters of other modules, which are on meta by then; so the bank asks the
hook for the values. Nothing of accelerate is imported: a hook is known by what it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn

from embshare.errors import OffloadedError
from embshare.ops.versions import version_of

__all__ = ["COVERED", "device_of", "offloaded", "require_values", "resident", "stamp"]

COVERED: Final = "_embshare_covered"
"""The hook of an ancestor that moves a module's parameters too, and the prefix of their names."""


def resident(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """A module's tensor with its values, on the device that the module runs on.

    Args:
        module: owns the tensor.
        name: of the tensor in ``module``.
        tensor: as it is in the module; returned unless it is offloaded, and on meta as well where
            no hook knows its values.
    """
    if tensor.device.type != "meta":
        return tensor
    found = offloaded(module, name)
    if found is None:
        return tensor
    hook, key = found
    value: Tensor = hook.weights_map[key]
    value = value.to(hook.execution_device, tensor.dtype).detach()
    return value.requires_grad_(tensor.requires_grad)  # which decides which kernels torch runs


def device_of(module: nn.Module, name: str, tensor: Tensor) -> torch.device:
    """Where `resident` puts a tensor; its values are not fetched."""
    found = offloaded(module, name) if tensor.device.type == "meta" else None
    return tensor.device if found is None else torch.device(found[0].execution_device)


def stamp(module: nn.Module, name: str, tensor: Tensor) -> tuple[object, ...]:
    """Changes with every change of a tensor that torch lets one see, and not by being moved.

    Hooks make a new parameter at each call, so an offloaded one is identified by where its values
    are kept. What is on disk counts as constant.
    """
    found = offloaded(module, name)
    kept = tensor if found is None else _kept(found[0].weights_map, found[1])
    if kept is None:
        return id(found[0].weights_map), found[1]  # type: ignore[index]
    return version_of(kept)


def require_values(place: str, tensors: Iterable[Tensor | None], around: Iterable[Tensor]) -> None:
    """Refuse to derive from tensors without values, unless the whole model is on meta.

    Torch itself multiplies some tensors in memory with others on meta, and returns whatever was in
    memory before.

    Raises:
        OffloadedError: one of ``tensors`` is on meta, and another of them, or of those ``around``,
            is not.
    """
    kinds = {tensor.device.type for tensor in tensors if tensor is not None}
    if "meta" not in kinds:
        return
    kinds.update(tensor.device.type for tensor in around)
    if len(kinds) > 1:
        raise OffloadedError(
            place=place,
            needs="have values, since the model has",
            finding="is on meta and no hook of accelerate knows its values",
            hint="Load its values (`load_state_dict(..., assign=True)`), or remove the hooks "
            "that took them away.",
        )


def offloaded(module: nn.Module, name: str) -> tuple[Any, str] | None:
    """The hook that has a tensor's values, and the tensor's name in it."""
    state = module.__dict__
    candidates = ((state.get("_hf_hook"), ""), state.get(COVERED, (None, "")))
    for hook, prefix in candidates:
        for part in getattr(hook, "hooks", (hook,)):
            known = getattr(part, "weights_map", None)
            offload = known is not None and getattr(part, "offload", False)
            if offload and (prefix == "" or getattr(part, "place_submodules", False)):
                return part, prefix + name
    return None


def _kept(known: Any, key: str) -> Tensor | None:
    """The tensor in memory that a map has under a name; None where it is on disk."""
    while not isinstance(known, dict):
        if key in (here := getattr(known, "here", {})):  # `embshare.runtime.offloading.Tied`
            found: Tensor = here[key]
            return found
        key = getattr(known, "first", {}).get(key, key)
        key = getattr(known, "prefix", "") + key
        known = getattr(known, "dataset", getattr(known, "state_dict", {}))
    return known.get(key)
