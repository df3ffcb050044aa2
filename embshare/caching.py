"""`cached`: keep derived weights across calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from embshare.state import banks_of

__all__ = ["cached"]


@contextmanager
def cached(model: nn.Module) -> Iterator[None]:
    """Derive each weight at most once inside this block, instead of once per outermost call.

    For evaluation and generation, where the sources do not change. A change that torch lets one
    see (an optimizer step, ``load_state_dict``, ``.to()``) is noticed at the next call: the weights
    are derived again and `StaleCacheWarning` is given. Writes through ``.data`` cannot be seen.
    Blocks nest; a dense model is accepted and nothing happens; of a model that holds several shared
    ones, at any depth, each is kept.
    """
    with ExitStack() as kept:
        for bank in banks_of(model):
            kept.enter_context(bank.keeping())
        yield
