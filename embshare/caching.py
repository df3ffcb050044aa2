"""`cached`, `keep` and `release`: derived weights that are not compared with their sources."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from embshare.runtime.bank import banks_of

__all__ = ["cached", "keep", "release"]


@contextmanager
def cached(model: nn.Module) -> Iterator[None]:
    """Derive each weight at most once inside this block, on any device.

    On a CPU, calls without gradients keep their weights anyway, and compare all bytes that they
    were derived from before they use them again. Inside this block that is left out. A change that
    torch lets one see (an optimizer step, ``load_state_dict``, ``.to()``) is noticed at the next
    call: the weights are derived again and `StaleCacheWarning` is given. Writes through ``.data``
    cannot be seen, so the block is for evaluation and generation, where sources do not change.

    Blocks nest; a dense model is accepted and nothing happens; of a model that holds several shared
    ones, at any depth, each is kept.
    """
    banks = banks_of(model)
    for bank in banks:
        bank.cache.keeper.begin()
    try:
        yield
    finally:
        for bank in banks:
            bank.cache.keeper.end()


def keep(model: nn.Module) -> None:
    """Begin what `cached` does, for a server that never leaves a block; `release` ends it.

    Args:
        model: shared, or a module that holds shared models at any depth; a dense one is accepted.
    """
    for bank in banks_of(model):
        bank.cache.keeper.begin()


def release(model: nn.Module) -> None:
    """End the last `keep`, and with the outermost free the memory of kept weights.

    Without a `keep` before it, it frees what calls without gradients have kept. Weights are derived
    again where they are needed next.

    Args:
        model: as of `keep`.
    """
    for bank in banks_of(model):
        bank.cache.keeper.end(drop=True)
