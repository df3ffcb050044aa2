"""Invented names for sentences of a grammar, which give a table rows to learn."""

from __future__ import annotations

from itertools import product
from typing import Final

__all__ = ["NAMES"]

FIRST: Final = (
    "Ba", "Be", "Da", "Fe", "Ga", "Ha", "Ki", "La", "Mo", "Na", "Pe", "Ri", "Sa", "To", "Ve",
)  # fmt: skip
SECOND: Final = tuple(map("".join, product("lrnmdt", "aeio", ("", "n", "s"))))
NAMES: Final[tuple[str, ...]] = tuple(map("".join, product(FIRST, SECOND)))
"""1,080 of them: with fewer rows, an EPS table of the default width has too few columns."""
