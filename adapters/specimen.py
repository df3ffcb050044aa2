"""A specimen: one architecture of a library made tiny, for walks over all that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["Specimen"]


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """One architecture made tiny: what a coverage walk shares, runs and trains."""

    library: str
    """``fairseq``."""
    name: str
    """``transformer_iwslt_de_en``."""
    build: Callable[[], nn.Module]
    """Tiny, with a random start that is the same for the same torch seed."""
    loss: Callable[[nn.Module], Tensor]
    """Runs the model on a fixed small batch and returns a scalar loss."""
    source: str | Mapping[str, str] = "auto"
    """``ShareConfig.source`` that suits it."""
    skip: str | None = None
    """Why it cannot be built or run at all, in the library's own words."""
