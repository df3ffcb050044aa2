"""The three published sizes; they differ in the factor, and the large one in its depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from embshare.models.sharebert.config import ShareBertConfig

__all__ = ["PRESETS", "base", "large", "small"]


def small(vocab_size: int = 30522) -> ShareBertConfig:
    """4,982,272 stored parameters (4,983,040 with the 30,528 rows of the published model)."""
    return ShareBertConfig(vocab_size=vocab_size, factor_size=128)


def base(vocab_size: int = 30522) -> ShareBertConfig:
    """13,844,992 stored parameters (13,847,296 with 30,528 rows)."""
    return ShareBertConfig(vocab_size=vocab_size, factor_size=384)


def large(vocab_size: int = 30522) -> ShareBertConfig:
    """27,003,904 stored parameters (27,008,512 with 30,528 rows), in six layers."""
    return ShareBertConfig(vocab_size=vocab_size, factor_size=768, num_hidden_layers=6)


PRESETS: Final[Mapping[str, Callable[[], ShareBertConfig]]] = MappingProxyType(
    {"small": small, "base": base, "large": large}
)
