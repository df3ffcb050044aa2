"""Which heads, neurons and layers a sub-network keeps: pure functions of numbers.

Letters: n heads of a layer, m neurons of its feed-forward part, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from embshare.errors import InvalidValueError

__all__ = [
    "DEPTHS",
    "FULL",
    "WIDTHS",
    "Rounding",
    "Size",
    "kept_heads",
    "kept_layers",
    "kept_neurons",
    "matched_states",
    "sub_networks",
]

Rounding: TypeAlias = Literal["exact", "official"]

WIDTHS: Final = (1.0, 0.75, 0.5, 0.25)
"""The published widths, widest first."""
DEPTHS: Final = (1.0, 0.75, 0.5)
"""The published depths, deepest first."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of each layer, and how many layers, a sub-network keeps."""

    width: float = 1.0
    """Share of heads and of feed-forward neurons, above 0 and at most 1."""
    depth: float = 1.0
    """Share of layers, above 0 and at most 1."""
    rounding: Rounding = "exact"
    """``exact`` refuses shares that leave no whole number of heads, neurons or layers;
    ``official`` rounds them as the official code does, halves to the even number."""

    def __post_init__(self) -> None:
        """Refuse what no model can have."""
        faults = [
            f"`{name}` must be above 0 and at most 1, but is {share!r}"
            for name, share in (("width", self.width), ("depth", self.depth))
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1
        ]
        if self.rounding not in ("exact", "official"):
            faults.append(f"`rounding` must be 'exact' or 'official', but is {self.rounding!r}")
        if faults:
            raise InvalidValueError(what="the size", faults=faults)

    def require_fit(self, *, heads: int, neurons: int, layers: int) -> None:
        """Refuse a share that leaves no whole number, or nothing, of a model's parts.

        Raises:
            InvalidValueError: names each part that does not divide, and the shares that do.
        """
        parts = (
            ("width", self.width, "heads", heads),
            ("width", self.width, "feed-forward neurons", neurons),
            ("depth", self.depth, "layers", layers),
        )
        if faults := [fault for part in parts for fault in self._faults(*part)]:
            raise InvalidValueError(what="the size", faults=faults)

    def _faults(self, name: str, share: float, what: str, count: int) -> Iterator[str]:
        whole = _is_whole(share * count)
        if self.rounding == "exact" and not whole:
            yield (
                f"`{name}` must leave a whole number of the {count:,} {what}, but {share:.4g} "
                f"leaves {share * count:.4g} (the nearest that does is "
                f"{max(1, round(share * count)) / count:.4g}; rounding='official' rounds)"
            )
        elif what != "feed-forward neurons" and round(share * count) < 1:
            yield f"`{name}` must leave some of the {count:,} {what}, but {share:.4g} leaves none"


FULL: Final = Size()
"""The whole model."""


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6


def kept_heads(heads: int, width: float) -> int:
    """Heads that a width keeps, of ``n``: the nearest whole number, of two the even one.

    Source:
        The official ``BertSelfAttention.forward``: Python's ``round``.
    """
    return round(heads * width)


def kept_neurons(neurons: int, heads: int, width: float) -> int:
    """Neurons that a width keeps, of ``m``: as large a share as of the heads, cut down, at least 1.

    Source:
        The official ``round_to_nearest``. It goes through floating-point numbers, and so does this.
    """
    return max(1, int(round(heads * width) * 1.0 / heads * neurons))


def kept_layers(layers: int, depth: float) -> tuple[int, ...]:
    """Layers that a depth keeps, of ``L``, counted from 0: ``floor(i / depth)``, evenly spread.

    Source:
        The official ``BertEncoder.forward``. The paper's wording drops others.
    """
    return tuple(math.floor(i / depth) for i in range(round(depth * layers)))


def matched_states(layers: int, depth: float) -> tuple[int, ...]:
    """Which of a teacher's ``L + 1`` states a student of this depth is compared with.

    The student's state before a layer is compared with the teacher's before the same layer, and the
    last with the last.
    """
    return (*kept_layers(layers, depth), layers)


def sub_networks(
    widths: Sequence[float] = WIDTHS,
    depths: Sequence[float] = DEPTHS,
    rounding: Rounding = "exact",
) -> tuple[Size, ...]:
    """Every combination: depths outside and widths inside, the largest first, as officially."""
    return tuple(
        Size(width=width, depth=depth, rounding=rounding)
        for depth in sorted(depths, reverse=True)
        for width in sorted(widths, reverse=True)
    )
