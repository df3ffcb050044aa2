"""Errors in building models by name, and in finding inputs for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from embshare.errors import EmbshareError

__all__ = ["InputsError", "ModelNotBuiltError", "suggestion"]


class ModelNotBuiltError(EmbshareError):
    """A model cannot be built by its name."""

    def __init__(self, *, model: str, finding: str, hint: str) -> None:
        super().__init__(f"`{model}`: {finding}. {hint}")
        self.model, self.finding, self.hint = model, finding, hint


class InputsError(EmbshareError):
    """No inputs were found that the model runs on."""

    def __init__(self, *, place: str, finding: str, hint: str) -> None:
        super().__init__(f"`{place}`: {finding}. {hint}")
        self.place, self.finding, self.hint = place, finding, hint


def suggestion(name: str, known: Iterable[str], *, shown: int = 3) -> str:
    """Suggest the known names most similar to a wrong one, or else the first few.

    >>> suggestion("lsmt", ["lstm", "conv"])
    'Did you mean `lstm`?'
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=shown)
    if near:
        return f"Did you mean {' or '.join(f'`{n}`' for n in near)}?"
    if not names:
        return "There is none."
    rest = len(names) - shown
    more = f" and {rest} more" if rest > 0 else ""
    return f"There are {', '.join(f'`{n}`' for n in names[:shown])}{more}."
