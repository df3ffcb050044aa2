"""Warnings that name the line which they are about: the caller's, however deep we are."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from embshare.errors import (
    EmbshareWarning,
    FrozenLayerWarning,
    RepeatedDerivationWarning,
    StaleCacheWarning,
)

__all__ = ["Repeats", "notify", "tell_changed", "tell_frozen"]

_OURS = ("embshare", "torch", "contextlib")


def notify(text: str, category: type[EmbshareWarning]) -> None:
    """Warn at the innermost line that is neither this library's nor torch's."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _package(frame.f_globals.get("__name__")) in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def _package(module: object) -> str:
    return str(module).partition(".")[0]


def tell_changed() -> None:
    """Kept weights were overtaken."""
    notify(
        "a source of derived weights changed inside `embshare.cached`; the kept weights were "
        "derived again. Leave the block before the model is trained or loaded.",
        StaleCacheWarning,
    )


def tell_frozen(names: Sequence[str]) -> None:
    """Layers were frozen, but not what their weights are derived from."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    notify(
        f"all that `{names[0]}`{more} stores is frozen, but its weights are derived from a table "
        f"or a projection that is trained, and go on moving. To keep them as they are, call "
        f"embshare.freeze(model, {names[0] + '.*'!r}); to train them, ignore this.",
        FrozenLayerWarning,
    )


def tell_unfrozen(layer: str) -> None:
    """A layer was frozen that stores nothing."""
    notify(
        f"this {layer} stores nothing that could be frozen: its weights are derived from a table "
        f"or a projection that is trained, and go on moving. To keep them as they are, call "
        f"embshare.freeze(model, pattern).",
        FrozenLayerWarning,
    )


class Repeats:
    """Notices a loop that derives the same weights for each of its calls."""

    LIMIT = 32
    """So many calls in a row that derive the same, before it is said, once."""

    def __init__(self) -> None:
        self._last: list[tuple[object, ...]] = []
        self._count = 0

    def note(self, sources: list[tuple[object, ...]]) -> None:
        """One call without gradients that derives from sources in this state."""
        if self._count >= self.LIMIT:
            return
        self._count = self._count + 1 if sources == self._last else 1
        self._last = sources
        if self._count == self.LIMIT:
            notify(
                f"the same weights were derived in {self.LIMIT} calls in a row without gradients, "
                f"from tables that did not change. Put the loop inside "
                f"`with embshare.cached(model):`, which derives them once.",
                RepeatedDerivationWarning,
            )
