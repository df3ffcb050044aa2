"""What tells the four ELC-BERTs and LTG-BERT from each other, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["VARIANTS", "Variant"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What a layer does with its input ``x``, a mixture of earlier outputs, and ``a = attend(x)``.

    ``out = a + feed(fed)``: nothing else of ``x`` reaches the output.
    """

    mixes: bool = True
    """``x`` is a learned mixture of all earlier outputs; without, the last one as it is."""
    last_first: bool = False
    """A mixture starts with a logit of 1 for the last output; without, with equal parts."""
    residual: bool = False
    """``a = x + attend(x)``, as everywhere else."""
    feeds_sum: bool = False
    """``fed = x + a``; without, ``a``."""
    normed: bool = False
    """A norm without parameters follows every layer."""
    mixes_output: bool = False
    """The model returns one more mixture, of the embeddings and all layers."""
    stretches: bool = False
    """A longer sequence than the table's spreads the buckets over its own length; without, 512."""


VARIANTS: Final[Mapping[str, Variant]] = MappingProxyType(
    {
        "base": Variant(last_first=True, stretches=True),
        "zero": Variant(feeds_sum=True),
        "normalized": Variant(feeds_sum=True, normed=True, stretches=True),
        "weighted_output": Variant(feeds_sum=True, mixes_output=True),
        "ltg": Variant(mixes=False, residual=True),
    }
)
"""The official code's five models, by the name that `ElcBertConfig` takes."""
