"""What a change costs for each byte that it saves, or gains for each that it adds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Kind", "Trade", "trade"]

Kind: TypeAlias = Literal["free", "saves", "adds", "loses", "same size"]


@dataclass(frozen=True, kw_only=True)
class Trade:
    """A row beside its baseline, in bytes on disk and in the metric."""

    kind: Kind
    """``free`` is no worse and no larger, ``saves`` is smaller and worse, ``adds`` is larger and
    better, ``loses`` is no better and larger; ``same size`` compares nothing for a byte."""
    bytes: int
    """Bytes on disk less the baseline's."""
    worse: float
    """How much worse the metric is than the baseline's; negative where it is better."""

    @property
    def per_megabyte(self) -> float | None:
        """What a saved megabyte costs, or an added one gains, in the metric's unit."""
        if self.kind not in ("saves", "adds"):
            return None
        return abs(self.worse) / abs(self.bytes) * 1e6

    @property
    def order(self) -> tuple[int, float]:
        """What is free first, then the cheapest saving, the best gain, and what loses last."""
        kinds: tuple[Kind, ...] = ("free", "saves", "adds", "same size", "loses")
        rate = self.per_megabyte
        if rate is None:
            return kinds.index(self.kind), self.worse
        return kinds.index(self.kind), rate if self.kind == "saves" else -rate


def trade(*, larger_by: int, difference: float, lower: bool) -> Trade | None:
    """Compare a row with its baseline.

    Args:
        larger_by: Bytes on disk less the baseline's.
        difference: The metric less the baseline's.
        lower: Less of the metric is better.
    Returns:
        ``None`` where the difference is not finite.
    """
    if not math.isfinite(difference):
        return None
    worse = difference if lower else -difference
    kind: Kind
    if larger_by == 0:
        kind = "same size"
    elif larger_by < 0:
        kind = "saves" if worse > 0 else "free"
    else:
        kind = "adds" if worse < 0 else "loses"
    return Trade(kind=kind, bytes=larger_by, worse=worse)
