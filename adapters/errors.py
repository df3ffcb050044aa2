"""What can go wrong when a model, or inputs for it, are asked for by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from embshare.errors import EmbshareError

__all__ = ["InputsError", "ModelNotBuiltError", "suggestion"]


class ModelNotBuiltError(EmbshareError):
    """A model that was asked for by name cannot be had."""

    def __init__(self, *, model: str, finding: str, way_out: str) -> None:
        super().__init__(f"`{model}`: {finding}. {way_out}")
        self.model, self.finding, self.way_out = model, finding, way_out


class InputsError(EmbshareError):
    """There are no inputs that a model could be run on."""

    def __init__(self, *, place: str, finding: str, hint: str) -> None:
        super().__init__(f"`{place}`: {finding}. {hint}")
        self.place, self.finding, self.hint = place, finding, hint


def suggestion(name: str, known: Iterable[str], *, shown: int = 3) -> str:
    """The known names that are most like a wrong one, or else the first few, as a sentence.

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
