"""What sizes and probabilities of a configuration have to be, whatever the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["size_faults"]


def size_faults(config: object, *, sizes: Iterable[str], shares: Iterable[str]) -> Iterator[str]:
    """One sentence for each setting that cannot be.

    Args:
        config: has them as attributes.
        sizes: whole numbers of at least 1.
        shares: probabilities below 1, such as dropout's.
    """
    for name in sizes:
        value = getattr(config, name)
        if not isinstance(value, int) or value < 1:
            yield f"`{name}` must be a whole number of at least 1, but is {value!r}"
    for name in shares:
        if not 0 <= (value := getattr(config, name)) < 1:
            yield f"`{name}` must be at least 0 and below 1, but is {value!r}"
