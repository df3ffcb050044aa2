"""Counts of a walk, for the terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from embshare.tasks.coverage.row import Row

__all__ = ["MOSTLY", "partly_dense", "totals"]

MOSTLY: Final = 0.95
"""Of a model's hidden parameters; what derives less is listed."""


def partly_dense(row: Row) -> bool:
    """Whether it passes with fewer of its hidden parameters derived than it should."""
    return row.outcome == "passes" and row.share < MOSTLY


def totals(rows: Iterable[Row]) -> dict[str, Mapping[str, int]]:
    """For each library how many were examined, how many came out how, how many are partly dense."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        counts = found.setdefault(
            row.library,
            dict.fromkeys(
                ("examined", "passes", "fails", "not run", "no table", "partly dense"), 0
            ),
        )
        counts["examined"] += 1
        counts[row.outcome] += 1
        counts["partly dense"] += partly_dense(row)
    return dict(found)
