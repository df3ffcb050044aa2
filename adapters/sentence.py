"""Integration with sentence-transformers: the model inside its wrappers is shared.

A `SentenceTransformer`, `CrossEncoder` or `SparseEncoder` is a sequence of modules, each of which
is saved by its own method, the first one by `save_pretrained` of the model of transformers that it
holds. So that model has to own the bank, and its folder the plan.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from torch import nn

__all__ = ["attach", "detach", "home", "introduce"]


def introduce() -> None:
    """Do nothing: transformers, on which the package is built, writes and reads the folders."""


def attach(model: nn.Module) -> None:
    """Do nothing."""


def detach(model: nn.Module) -> None:
    """Do nothing."""


def home(model: nn.Module) -> nn.Module | None:
    """The one model of transformers in a wrapper of this package; ``None`` of anything else.

    A router of several models has none: each of them can be shared on its own.
    """
    if not _is_wrapper(model):
        return None
    inner = list(_outermost(model, sys.modules["transformers"].PreTrainedModel))
    return inner[0] if len(inner) == 1 else None


def _is_wrapper(model: nn.Module) -> bool:
    """Whether the class or a base of it is from the package."""
    return any(
        kind.__module__.partition(".")[0] == "sentence_transformers" for kind in type(model).__mro__
    )


def _outermost(model: nn.Module, kind: type[nn.Module]) -> Iterator[nn.Module]:
    for child in model.children():
        if isinstance(child, kind):
            yield child
        else:
            yield from _outermost(child, kind)
