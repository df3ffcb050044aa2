"""One sequence for each row, symbol after symbol: the likeliest each time, or a drawn one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from embshare.errors import InvalidValueError
from embshare.tasks.decoding.scorer import Scorer

__all__ = ["greedy_search", "sample"]

State = TypeVar("State")


def greedy_search(
    scorer: Scorer[State],
    start: State,
    *,
    limits: Sequence[int],
    first: int,
    end: int,
    device: torch.device | str = "cpu",
) -> list[tuple[int, ...]]:
    """The likeliest symbol each time; arguments as in `beam_search`.

    Returns:
        For each source its symbols, without the start and the end symbol.
    """
    raise NotImplementedError


def sample(
    scorer: Scorer[State],
    start: State,
    *,
    limits: Sequence[int],
    first: int,
    end: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    among: int | None = None,
    device: torch.device | str = "cpu",
) -> list[tuple[int, ...]]:
    """A drawn symbol each time; other arguments and result as in `greedy_search`.

    Args:
        generator: on ``device``; the same state draws the same symbols.
        temperature: log-probabilities are divided by it before drawing; below 1 the likely ones
            are drawn more often.
        among: draw from this many likeliest symbols alone; ``None`` is all.
    Raises:
        InvalidValueError: ``temperature`` is not above 0, ``among`` or a limit is below 1.
    """
    raise NotImplementedError
