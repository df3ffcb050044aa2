"""Differences between the three published sizes; all else is equal."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["PRESETS"]

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "small": MappingProxyType(
            {
                "embedding_size": 128,
                "hidden_size": 256,
                "intermediate_size": 1024,
                "num_attention_heads": 4,
                "generator_hidden_ratio": 1 / 4,
            }
        ),
        "medium-small": MappingProxyType(
            {
                "embedding_size": 128,
                "hidden_size": 384,
                "intermediate_size": 1536,
                "num_attention_heads": 8,
                "num_groups": 2,
                "generator_hidden_ratio": 1 / 4,
            }
        ),
        "base": MappingProxyType(
            {
                "embedding_size": 768,
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_attention_heads": 12,
                "generator_hidden_ratio": 1 / 3,
            }
        ),
    }
)
