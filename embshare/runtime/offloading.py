"""Parameters that are elsewhere: on meta, while a hook of accelerate knows where their values are.

A hook of accelerate brings a module's own parameters back for as long as that module runs. Derived
weights are read from parameters of other modules, which are on meta by then; so the bank asks the
hook for the values. Nothing of accelerate is imported: a hook is known by what it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from embshare.errors import OffloadedError
from embshare.ops.versions import version_of
from embshare.runtime.tied_state_dict import TIES, aliases_of

__all__ = [
    "COVERED",
    "Tied",
    "device_of",
    "refuse_offloaded",
    "require_values",
    "resident",
    "stamp",
]

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
    found = _offloaded(module, name)
    if found is None:
        return tensor
    hook, key = found
    value: Tensor = hook.weights_map[key]
    value = value.to(hook.execution_device, tensor.dtype).detach()
    return value.requires_grad_(tensor.requires_grad)  # which decides which kernels torch runs


def device_of(module: nn.Module, name: str, tensor: Tensor) -> torch.device:
    """Where `resident` puts a tensor; its values are not fetched."""
    found = _offloaded(module, name) if tensor.device.type == "meta" else None
    return tensor.device if found is None else torch.device(found[0].execution_device)


def stamp(module: nn.Module, name: str, tensor: Tensor) -> tuple[object, ...]:
    """Changes with every change of a tensor that torch lets one see, and not by being moved.

    Hooks make a new parameter at each call, so an offloaded one is told by where its values are
    kept. What is on disk counts as constant.
    """
    found = _offloaded(module, name)
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
            way_out="Load its values (`load_state_dict(..., assign=True)`), or remove the hooks "
            "that took them away.",
        )


def refuse_offloaded(model: nn.Module, verb: str) -> None:
    """Refuse what needs all of a model's values at once, in place.

    Args:
        model: any, with or without hooks.
        verb: what would be done to it.
    Raises:
        OffloadedError: a hook of accelerate has taken parameters away.
    """
    for place, module in model.named_modules():
        for name, parameter in module.named_parameters(place, recurse=False):
            leaf = name.rpartition(".")[2]
            if parameter.device.type == "meta" and _offloaded(module, leaf) is not None:
                raise OffloadedError(
                    place=name,
                    needs=f"be in memory to {verb} this model",
                    finding="a hook of accelerate has moved its values away",
                    way_out="Call accelerate.hooks.remove_hook_from_module(model, recurse=True) "
                    "first, and offload the result.",
                )


def _offloaded(module: nn.Module, name: str) -> tuple[Any, str] | None:
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
        if isinstance(known, Tied):
            if key in known.here:
                return known.here[key]
            key = known.first.get(key, key)
        key = getattr(known, "prefix", "") + key
        known = getattr(known, "dataset", getattr(known, "state_dict", {}))
    return known.get(key)


def _lost_ties(root: nn.Module) -> dict[str, str]:
    """Ties of shared models between tensors on meta, which a loader has made anew one by one."""
    found: dict[str, str] = {}
    tensors = dict(root.named_parameters(remove_duplicate=False))
    for place, module in root.named_modules():
        start = f"{place}." if place else ""
        for name, first in module.__dict__.get(TIES, {}).items():
            pair = [tensors.get(start + name), tensors.get(start + first)]
            if all(tensor is not None and tensor.is_meta for tensor in pair):
                found[start + name] = start + first
    return found


class Tied(Mapping[str, Tensor]):
    """Values by name, as accelerate keeps them, in which a tied parameter has all of its names.

    Args:
        dataset: name -> value, made from a state dict that has first names alone.
        root: the module whose state dict that was.
        prefix: before its names in ``dataset``.
    """

    def __init__(self, dataset: Mapping[str, Tensor], root: nn.Module, prefix: str = "") -> None:
        self.dataset, self.root, self.start = dataset, root, prefix
        self.first: dict[str, str] = {}
        """Name that ``dataset`` lacks -> the first name of the same tensor."""
        self.here: dict[str, Tensor] = {}
        """Those whose first name is not there either, since its module keeps it in memory."""
        known = set(dataset)
        for name, first in (_lost_ties(root) | aliases_of(root)).items():
            if prefix + name in known:
                continue
            self.first[prefix + name] = prefix + first
            tensor = self.tensor(prefix + first)
            if prefix + first not in known and tensor.device.type != "meta":
                self.here[prefix + name] = tensor.detach()
        found = (name for name, first in self.first.items() if first in known)
        self.names = known.union(found, self.here)
        """All that have values."""

    def tensor(self, name: str) -> Tensor:
        """What the model has under a name by now."""
        tensors, leaf = self._where(name)
        found: Tensor = tensors[leaf]
        return found

    def tie(self, name: str, tensor: Tensor) -> None:
        """Let the model have another tensor under a name."""
        tensors, leaf = self._where(name)
        tensors[leaf] = tensor

    def _where(self, name: str) -> tuple[dict[str, Any], str]:
        owner, _, leaf = name.removeprefix(self.start).rpartition(".")
        module = self.root.get_submodule(owner)
        return (module._parameters if leaf in module._parameters else module._buffers), leaf

    def __getitem__(self, name: str) -> Tensor:
        here = self.here.get(name)
        return self.dataset[self.first.get(name, name)] if here is None else here

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
