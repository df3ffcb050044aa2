"""Warnings that name the line which they are about: the caller's, however deep we are."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from embshare.errors import (
    EmbshareWarning,
    FrozenLayerWarning,
    StaleCacheWarning,
    UnusedCacheWarning,
)

__all__ = [
    "notify",
    "warn_frozen",
    "warn_nothing_to_freeze",
    "warn_stale_cache",
    "warn_unused_cache",
]

_OURS = ("embshare", "torch", "contextlib")


def notify(text: str, category: type[EmbshareWarning]) -> None:
    """Warn at the innermost line that is neither this library's nor torch's."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _package(frame.f_globals.get("__name__")) in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def _package(module: object) -> str:
    return str(module).partition(".")[0]


def warn_stale_cache() -> None:
    """Warn that a source changed while derived weights were kept."""
    notify(
        "a source of derived weights changed inside `embshare.cached`; the kept weights were "
        "derived again. Leave the block before the model is trained or loaded.",
        StaleCacheWarning,
    )


def warn_frozen(names: Sequence[str]) -> None:
    """Warn that layers were frozen, but not what their weights are derived from."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    notify(
        f"all that `{names[0]}`{more} stores is frozen, but its weights are derived from a table "
        f"or a projection that is trained, and still change. To keep them as they are, call "
        f"embshare.freeze(model, {names[0] + '.*'!r}); to train them, ignore this.",
        FrozenLayerWarning,
    )


def warn_unused_cache() -> None:
    """Warn that a compiled call derived weights that were kept."""
    notify(
        "what `embshare.cached` kept was not used: the model was called by a function or a module "
        "that is compiled around it, and such a graph derives the weights in each call. Compile "
        "the shared model itself, by `model.compile()` or `torch.compile(model)`.",
        UnusedCacheWarning,
    )


def warn_nothing_to_freeze(layer: str) -> None:
    """Warn that a layer was frozen that stores nothing."""
    notify(
        f"this {layer} stores nothing that could be frozen: its weights are derived from a table "
        f"or a projection that is trained, and still change. To keep them as they are, call "
        f"embshare.freeze(model, pattern).",
        FrozenLayerWarning,
    )
