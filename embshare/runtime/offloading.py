"""What accelerate's hooks have moved away: what is refused meanwhile, and tied names in maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from embshare.blocks.resident import offloaded
from embshare.errors import OffloadedError
from embshare.runtime.tied_state_dict import TIES, aliases_of

__all__ = ["Tied", "refuse_offloaded"]


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
            if parameter.device.type == "meta" and offloaded(module, leaf) is not None:
                raise OffloadedError(
                    place=name,
                    needs=f"be in memory to {verb} this model",
                    finding="a hook of accelerate has moved its values away",
                    hint="Call accelerate.hooks.remove_hook_from_module(model, recurse=True) "
                    "first, and offload the result.",
                )


def _lost_ties(root: nn.Module) -> dict[str, str]:
    """Ties of shared models between tensors on meta, which a loader has made one by one."""
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
