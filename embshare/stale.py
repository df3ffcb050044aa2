"""Say loudly that kept weights were overtaken."""

from __future__ import annotations

import warnings

from embshare.errors import StaleCacheWarning

__all__ = ["warn_if_changed"]


def warn_if_changed() -> None:
    """Warn with the caller's caller's place."""
    warnings.warn(
        "a source of derived weights changed inside `embshare.cached`; the kept weights were "
        "derived again. Leave the block before the model is trained or loaded.",
        StaleCacheWarning,
        stacklevel=4,
    )
