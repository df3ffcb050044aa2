"""`generate` keeps derived weights from the first token to the last without being asked."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch import nn

from embshare.caching import cached

__all__ = ["keep_while_generating", "stop_keeping"]

METHODS = ("generate", "generate_batch")


class Keeping:
    """A model's own method, run inside `embshare.cached`; copies and pickles follow their model."""

    def __init__(self, model: nn.Module, method: str) -> None:
        self.model, self.method = model, method
        self.__name__ = method

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return getattr(type(self.model), self.method).__doc__  # type: ignore[no-any-return]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        helpers = [model for model in kwargs.values() if isinstance(model, nn.Module)]
        with ExitStack() as kept:
            for model in (self.model, *helpers):  # an assistant is asked for every few tokens
                kept.enter_context(cached(model))
            return getattr(type(self.model), self.method)(self.model, *args, **kwargs)


def keep_while_generating(model: nn.Module) -> None:
    """Wrap the generation methods that the model's class has."""
    for method in METHODS:
        if callable(getattr(type(model), method, None)):
            model.__dict__[method] = Keeping(model, method)


def stop_keeping(model: nn.Module) -> None:
    """Undo `keep_while_generating`."""
    for method in METHODS:
        if isinstance(model.__dict__.get(method), Keeping):
            del model.__dict__[method]
