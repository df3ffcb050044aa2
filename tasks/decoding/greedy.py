"""Greedy decoding and sampling."""

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
    """Decode greedily; arguments as in `beam_search`.

    Returns:
        Tokens of each source without start and end.
    Raises:
        InvalidValueError: a limit is below 1.
        NoFiniteScoreError: a score is NaN, or none is finite.
    """
    return _decode(
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
    """Sample sequences; other arguments and result as in `greedy_search`.

    Args:
        generator: generator on ``device``; the same state samples the same tokens.
        temperature: divisor of log-probabilities; below 1 probable tokens are sampled more often.
        among: number of most probable tokens to sample from (top-k); ``None`` is all.
    Raises:
        InvalidValueError: ``temperature`` is not above 0, ``among`` or a limit is below 1.
        NoFiniteScoreError: a score is NaN, or none is finite.
    """
    faults = []
    if not temperature > 0:
        faults.append(f"`temperature` must be above 0, but is {temperature}")
    if among is not None and among < 1:
        faults.append(f"`among` must be at least 1, but is {among}")
    if faults:
        raise InvalidValueError(what="sample", faults=faults)

    def choose(log_probs: Tensor) -> Tensor:
        if among is not None and among < log_probs.shape[-1]:
            least = log_probs.topk(among, dim=-1).values[:, -1:]
            log_probs = log_probs.masked_fill(log_probs < least, -torch.inf)
        probabilities = (log_probs / temperature).softmax(dim=-1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]

    return _decode(scorer, start, limits=limits, first=first, end=end, choose=choose, device=device)


def _decode(
    scorer: Scorer[State],
    start: State,
    *,
    limits: Sequence[int],
    first: int,
    end: int,
    choose: Callable[[Tensor], Tensor],
    device: torch.device | str,
) -> list[tuple[int, ...]]:
    """Decode token by token; the batch shrinks as rows end."""
    check_limits(limits)
    found: list[list[int]] = [[] for _ in limits]
    active, state = list(range(len(limits))), start
    tokens = torch.full((len(limits),), first, dtype=torch.long, device=device)
    while True:
        log_probs, state = scorer.step(tokens, state)
        # The maximum of a row is NaN where any of its scores is.
        finite = log_probs.amax(dim=-1).isfinite()
        if not finite.all():
            place = int(finite.logical_not().nonzero()[0])
            raise NoFiniteScoreError(row=active[place], position=len(found[active[place]]) + 1)
        tokens = choose(log_probs)
        continued = []
        for place, token in enumerate(tokens.tolist()):
            row = active[place]
            # The last position of a row is that of the end token.
            if token != end and len(found[row]) < limits[row] - 1:
                found[row].append(token)
                continued.append(place)
        if not continued:
            return [tuple(row) for row in found]
        if len(continued) < len(active):
            active = [active[place] for place in continued]
            rows = torch.tensor(continued, device=tokens.device)
            tokens, state = tokens[rows], scorer.reorder(state, rows)
