"""Optional packages, imported at the point of need."""

from __future__ import annotations

import importlib
from types import ModuleType

from embshare.errors import MissingPackageError

__all__ = ["need"]


def need(package: str, *, extra: str) -> ModuleType:
    """Import an optional package where it is used.

    Args:
        package: an importable name.
        extra: the extra of embshare that brings it.
    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # it is installed; something that it imports is not
        raise MissingPackageError(package=package, extra=extra) from error
