"""Roles and ties: which layers are repetitions of one another, and which of them read one slot."""

from __future__ import annotations

import re

from torch import nn

__all__ = ["INDEX", "pattern_of", "role_of", "slot_numbers"]

INDEX = re.compile(r"(?<![^._])\d+(?![^._])|(?<=_l)\d+")
"""A number between dots in a name, or one that counts the layers of a recurrent module."""

_REPEATED = (nn.ModuleList, nn.Sequential, nn.ParameterList)
_RECURRENT_LAYER = re.compile(r"_l\d+")


def pattern_of(name: str) -> str:
    """A weight's name with every index in it replaced by ``*``: layers of one kind look the same.

    >>> pattern_of("encoder.layer.11.output.dense.weight"), pattern_of("lstm.weight_ih_l0_reverse")
    ('encoder.layer.*.output.dense.weight', 'lstm.weight_ih_l*_reverse')
    """
    return INDEX.sub("*", name)


def role_of(model: nn.Module, name: str) -> str:
    """A parameter's name with the indices of repeated blocks replaced by ``*``.

    Indices count where the parent is an ``nn.ModuleList``, ``nn.Sequential`` or
    ``nn.ParameterList``, and in the stacked layers (``_l0``, ``_l1``) of a recurrent module.

    >>> role_of(nn.Sequential(nn.Linear(2, 2)), "0.weight")
    '*.weight'
    """
    parts: list[str] = []
    module: nn.Module = model
    for part in name.split("."):
        repeated = isinstance(module, _REPEATED) and part.isdigit()
        if isinstance(module, nn.RNNBase):
            part = _RECURRENT_LAYER.sub("_l*", part)
        parts.append("*" if repeated else part)
        child = module._modules.get(part)
        module = module if child is None else child  # a compiled one has a length that fails
    return ".".join(parts)


def slot_numbers(tie: str, layers: int) -> list[int]:
    """Which of a role's slots each of its layers reads.

    Args:
        tie: ``none``, ``all``, or a strategy of Takase & Kiyono (2021), "Lessons on Parameter
            Sharing across Layers in Transformers", with ``M`` distinct slots.
        layers: how many layers have the role.
    Returns:
        ``layers`` numbers counting from 0; fewer than ``M`` distinct ones where there are fewer
        layers.

    >>> slot_numbers("sequence:3", 6), slot_numbers("cycle:3", 6), slot_numbers("cycle_rev:3", 6)
    ([0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2], [0, 1, 2, 2, 1, 0])
    """
    strategy, _, number = tie.partition(":")
    if strategy == "all":
        return [0] * layers
    if strategy == "none":
        return list(range(layers))
    distinct = min(int(number), layers)
    if strategy == "sequence":
        return [layer * distinct // layers for layer in range(layers)]
    cycle = [layer % distinct for layer in range(layers)]
    if strategy == "cycle_rev":
        last = (layers - 1) // distinct * distinct  # the last round runs backwards
        if last:
            cycle[last:] = [distinct - 1 - number for number in cycle[last:]]
    return cycle
