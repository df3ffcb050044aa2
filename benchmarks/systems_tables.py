"""Tables of a study of systems, from its result file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["elastic_table", "glue_table", "pretraining_table"]


def pretraining_table(found: Mapping[str, Any]) -> str:
    return ""


def glue_table(found: Mapping[str, Any]) -> str:
    return ""


def elastic_table(found: Mapping[str, Any]) -> str:
    return ""
