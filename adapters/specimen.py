"""One architecture made tiny: what a coverage walk takes from every library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from embshare.plan.layer_rules import RULES, Rules

__all__ = ["Specimen"]


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """One architecture made tiny: what a coverage walk shares, runs and trains."""

    library: str
    """``transformers``."""
    name: str
    """``BertForMaskedLM``; no two of a library have the same."""
    build: Callable[[], nn.Module]
    """Makes it, tiny and with a random start that is the same for the same torch seed."""
    loss: Callable[[nn.Module], Tensor]
    """Runs a model that `build` made on a fixed small batch and returns a scalar to go down."""
    source: str | Mapping[str, str] = "auto"
    """`ShareConfig.source` that suits it."""
    rules: Rules = field(default_factory=lambda: RULES)
    """Layer kinds to plan with, those of its library included."""
    skip: str | None = None
    """Why it cannot be built or run at all, in the library's own words."""
