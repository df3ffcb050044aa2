"""Settings of published pretrainings: files for ``embshare train pretraining --config``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from embshare.errors import InvalidValueError

__all__ = ["recipe", "recipes"]


def recipes() -> Mapping[str, Path]:
    """Every recipe's file by its name, in order."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def recipe(name: str) -> Path:
    """The file of one recipe.

    Raises:
        InvalidValueError: there is none of this name.
    """
    found = recipes()
    if name not in found:
        known = ", ".join(found)
        raise InvalidValueError(
            what="the recipe", faults=[f"must be one of {known}, but is {name!r}"]
        )
    return found[name]
