"""Data sets of the Hugging Face hub, or folders in that layout, as splits of rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embshare.tasks.errors import MissingDataError

__all__ = ["load_splits"]


def load_splits(name: str, configuration: str | None = None) -> Mapping[str, Any]:
    """Load a data set with the package ``datasets``.

    Args:
        name: on the hub (``nyu-mll/glue``), or a folder with such a set.
        configuration: a part of the set, where it has several.
    Returns:
        Splits by name; empty where the set has no such configuration.
    Raises:
        MissingDataError: there is no such set, or it cannot be fetched. A network that fails is no
            reason to go without a split.
    """
    from datasets import load_dataset  # type: ignore[import-untyped]

    try:
        found: Mapping[str, Any] = load_dataset(name, configuration)
    except Exception as error:  # its errors have no class in common
        if f"BuilderConfig '{configuration}' not found" in str(error):
            return {}
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise MissingDataError(
            Path(name),
            configuration,
            needs="be a data set that the package datasets can load",
            has=f"cannot be loaded ({first})",
            hint="Name one as the hub spells it, or a folder of your own with `data`.",
        ) from error
    return found
