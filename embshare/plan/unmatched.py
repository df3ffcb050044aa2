"""Weights that no layer of a known kind holds: fused experts, state spaces, bare parameters."""

from __future__ import annotations

import re
from typing import Final

from torch import nn

from embshare.plan.inventory import Candidate, take_inventory
from embshare.plan.layer_rules import RULES, Rules
from embshare.plan.tying import pattern_of

__all__ = ["bare_weights"]

_ROWS: Final = re.compile(r"embed|position|(^|_)pos(_|$)|token|bias|table|quer|latent|prompt")
"""In the names of parameters, or of their modules, whose rows are looked up, added or put in
front, and not multiplied with."""


def bare_weights(model: nn.Module, *, rules: Rules = RULES) -> tuple[str, ...]:
    """Patterns that name a model's bare matrices, to be added to `ShareConfig.include`.

    ``include=("*",)`` takes the layers of known kinds alone, because a bare parameter may be
    anything. These are the ones that look like weights: of two or more dimensions that are above
    one, the first of them included (what is broadcast over a batch is a table of positions or
    tokens), and not called a table, a bias, or something that is embedded.

    Args:
        model: any module, also on meta; not changed.
        rules: the caller's own layer kinds, which are not bare.
    Returns:
        Globs over parameter names, one for all repetitions of a block; empty where there are none.

    Example:
        >>> import torch
        >>> from embshare import ShareConfig
        >>> experts = nn.Module()
        >>> experts.gate_up = nn.Parameter(torch.zeros(4, 8, 16))
        >>> ShareConfig(include=("*", *bare_weights(nn.ModuleList([experts])))).include
        ('*', '*.gate_up')
    """
    names = [c.names[0] for c in take_inventory(model, rules).candidates if _is_bare_weight(c)]
    return tuple(dict.fromkeys(_pattern(name) for name in names))


def _is_bare_weight(candidate: Candidate) -> bool:
    shape = candidate.parameter.shape
    return (
        not candidate.kind
        and candidate.obstacle is None
        and shape[0] > 1
        and candidate.parameter.numel() > max(shape)
        and not _ROWS.search(".".join(candidate.names[0].split(".")[-2:]))
    )


def _pattern(name: str) -> str:
    """A glob that spells its last part out, which is what makes it name a bare parameter."""
    owner, dot, leaf = name.rpartition(".")
    return f"{pattern_of(owner)}{dot}{leaf}" if dot else name
