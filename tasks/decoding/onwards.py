"""One sequence for each row, symbol after symbol: the likeliest each time, or a drawn one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from embshare.errors import InvalidValueError
from embshare.tasks.decoding.beam import check_limits
from embshare.tasks.decoding.errors import NoFiniteScoreError
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
    Raises:
        InvalidValueError: a limit is below 1.
        NoFiniteScoreError: a score is not a number, or none is finite.
    """
    return _onwards(
        scorer,
        start,
        limits=limits,
        first=first,
        end=end,
        choose=lambda log_probs: log_probs.argmax(dim=-1),
        device=device,
    )


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
        NoFiniteScoreError: as in `greedy_search`.
    """
    faults = []
    if not temperature > 0:
        faults.append(f"`temperature` must be above 0, but is {temperature}")
    if among is not None and among < 1:
        faults.append(f"`among` must be at least 1, but is {among}")
    if faults:
        raise InvalidValueError(what="sample", faults=faults)

    def draw(log_probs: Tensor) -> Tensor:
        if among is not None and among < log_probs.shape[-1]:
            least = log_probs.topk(among, dim=-1).values[:, -1:]
            log_probs = log_probs.masked_fill(log_probs < least, -torch.inf)
        probabilities = (log_probs / temperature).softmax(dim=-1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]

    return _onwards(scorer, start, limits=limits, first=first, end=end, choose=draw, device=device)


def _onwards(
    scorer: Scorer[State],
    start: State,
    *,
    limits: Sequence[int],
    first: int,
    end: int,
    choose: Callable[[Tensor], Tensor],
    device: torch.device | str,
) -> list[tuple[int, ...]]:
    """Rows that have ended, or are full, are given up, so that the batch shrinks."""
    check_limits(limits)
    found: list[list[int]] = [[] for _ in limits]
    active, state = list(range(len(limits))), start
    symbols = torch.full((len(limits),), first, dtype=torch.long, device=device)
    while True:
        log_probs, state = scorer.step(symbols, state)
        # The greatest of a row is not a number where any is none.
        finite = log_probs.amax(dim=-1).isfinite()
        if not finite.all():
            place = int(finite.logical_not().nonzero()[0])
            raise NoFiniteScoreError(row=active[place], position=len(found[active[place]]) + 1)
        symbols = choose(log_probs)
        going_on = []
        for place, symbol in enumerate(symbols.tolist()):
            row = active[place]
            # The end symbol has the last place of a row that gets that far.
            if symbol != end and len(found[row]) < limits[row] - 1:
                found[row].append(symbol)
                going_on.append(place)
        if not going_on:
            return [tuple(row) for row in found]
        if len(going_on) < len(active):
            active = [active[place] for place in going_on]
            rows = torch.tensor(going_on, device=symbols.device)
            symbols, state = symbols[rows], scorer.reorder(state, rows)
