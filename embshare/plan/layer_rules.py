"""Layer kinds: which parameters of a layer are weights, and in which order blocks have them.

The table is a value. A caller's own layer needs no registration:
``plan_sharing(model, config, rules={**RULES, GatedLinear: LayerRule(("weight",))})``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol, final

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList

__all__ = ["RULES", "LayerRule", "Rule", "Rules", "rule_for"]


class Rule(Protocol):
    """How one kind of layer gives up its weights."""

    @property
    def transposed(self) -> bool:
        """Whether a block is ``[in, out]``, the transpose of the stored weight."""
        ...

    @property
    def channel(self) -> int:
        """The dimension of a weight that counts output channels."""
        ...

    def weights(self, layer: nn.Module) -> tuple[str, ...]:
        """Names of the layer's own parameters that can be derived."""
        ...


@final
@dataclass(frozen=True)
class LayerRule:
    """Weights by glob over the layer's own parameter names."""

    names: tuple[str, ...]
    transposed: bool = False
    channel: int = 0

    def weights(self, layer: nn.Module) -> tuple[str, ...]:
        """The layer's own parameters of two or more dimensions that a glob names."""
        return tuple(
            name
            for name, parameter in layer.named_parameters(recurse=False)
            if parameter.dim() >= 2 and any(fnmatch.fnmatchcase(name, glob) for glob in self.names)
        )


@final
@dataclass(frozen=True)
class ParametrizationRule:
    """`torch.nn.utils.parametrize`: of a weight norm the direction is derived, the norm stays."""

    transposed: bool = False
    channel: int = 0

    def weights(self, layer: nn.Module) -> tuple[str, ...]:
        """``original1`` of a weight norm, ``original`` of any other parametrization."""
        assert isinstance(layer, ParametrizationList)
        wanted = "original1" if isinstance(layer[0], _WeightNorm) else "original"
        return LayerRule((wanted,)).weights(layer)


Rules = Mapping[type[nn.Module] | str, Rule]

# `weight_v` is the direction of the older torch.nn.utils.weight_norm.
_PLAIN = LayerRule(("weight", "weight_v"))

RULES: Final[Rules] = MappingProxyType(
    {
        nn.Linear: LayerRule(("weight", "weight_v"), transposed=True),
        nn.Bilinear: _PLAIN,
        _ConvNd: _PLAIN,
        _ConvTransposeNd: LayerRule(("weight", "weight_v"), channel=1),
        nn.RNNBase: LayerRule(("weight_*",)),
        nn.RNNCellBase: LayerRule(("weight_*",)),
        nn.MultiheadAttention: LayerRule(("in_proj_weight", "[qkv]_proj_weight")),
        ParametrizationList: ParametrizationRule(),
        # Named, not imported: its weight is stored [in, out] already.
        "transformers.pytorch_utils.Conv1D": LayerRule(("weight",), channel=1),
    }
)
"""Layer kind -> rule; a string is a class's full name, for kinds of packages not imported here."""


def rule_for(layer: nn.Module, rules: Rules = RULES) -> Rule | None:
    """The rule of the nearest base class: a subclass of Linear is still a Linear."""
    for base in type(layer).__mro__:
        for key in (base, f"{base.__module__}.{base.__qualname__}"):
            if key in rules:
                return rules[key]
    return None
