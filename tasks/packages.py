"""Check for optional packages before anything is imported or read."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Final

from embshare.errors import MissingPackageError

__all__ = ["TRAINING", "check_packages"]

TRAINING: Final = ("transformers", "accelerate", "tokenizers", "yaml")


def check_packages(names: Iterable[str], *, extra: str) -> None:
    """Check that packages are installed.

    Raises:
        MissingPackageError: one is not; the message names the extra of embshare that installs it.
    """
    for name in names:
        if find_spec(name) is None:
            raise MissingPackageError(package=name, extra=extra)
