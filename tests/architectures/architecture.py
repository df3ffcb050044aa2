"""A test model: one architecture of a library, made tiny."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from embshare.plan.layer_rules import RULES, Rules

__all__ = ["Architecture"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One architecture made tiny, which is shared, run and trained."""

    library: str
    """``transformers``."""
    name: str
    """``BertForMaskedLM``; unique within its library."""
    build: Callable[[], nn.Module]
    """Makes it, with a random start that is the same for the same torch seed."""
    loss: Callable[[nn.Module], Tensor]
    """Runs a model that `build` made on a fixed small batch and returns a scalar to go down."""
    source: str | Mapping[str, str] = "auto"
    """`ShareConfig.source` that suits it."""
    rules: Rules = field(default_factory=lambda: RULES)
    """Layer kinds to plan with, those of its library included."""
    skip: str | None = None
    """Why it cannot be built or run at all, in the library's own words."""
