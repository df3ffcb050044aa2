"""A dense model's structure, as far as a checkpoint depends on it."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from embshare._value import Value

__all__ = ["Structure", "structure_of"]


class Structure(Value):
    """Names and shapes of parameters and persistent buffers, and which names are one parameter."""

    tensors: dict[str, tuple[int, ...]]
    ties: tuple[tuple[str, ...], ...]

    def difference(self, other: Structure, *, may_grow: Collection[str] = ()) -> str:
        """The first thing in which another model differs, or an empty string.

        Args:
            other: of the model that is loaded into.
            may_grow: tensors that may have fewer rows in ``other``.
        """
        for name in sorted(self.tensors.keys() | other.tensors.keys()):
            ours, theirs = self.tensors.get(name), other.tensors.get(name)
            if ours != theirs and not (name in may_grow and _grew(ours, theirs)):
                return f"`{name}` is {ours or 'absent'} there and {theirs or 'absent'} here"
        if {frozenset(tie) for tie in self.ties} != {frozenset(tie) for tie in other.ties}:
            return f"it ties {self.ties or 'nothing'}, and this model {other.ties or 'nothing'}"
        return ""


def _grew(ours: tuple[int, ...] | None, theirs: tuple[int, ...] | None) -> bool:
    return bool(ours and theirs and ours[0] >= theirs[0] and ours[1:] == theirs[1:])


def structure_of(model: nn.Module) -> Structure:
    """The structure of a dense model."""
    groups: dict[int, list[str]] = {}
    tensors: dict[str, tuple[int, ...]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        tensors[name] = tuple(parameter.shape)
        groups.setdefault(id(parameter), []).append(name)
    ties = tuple(tuple(group) for group in groups.values() if len(group) > 1)
    return Structure(tensors=tensors, ties=ties)
