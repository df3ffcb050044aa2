"""Beam search: the best sequences that a few hypotheses for each row lead to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from embshare.errors import InvalidValueError
from embshare.tasks.decoding.errors import NoFiniteScoreError
from embshare.tasks.decoding.scorer import Scorer

__all__ = ["Beam", "Candidates", "Hypothesis", "beam_search", "best_candidates", "check_limits"]

State = TypeVar("State")


@dataclass(frozen=True, kw_only=True)
class Beam:
    """How a beam search goes.

    Raises:
        InvalidValueError: a field is out of range.
    """

    width: int = 5
    """Hypotheses that are followed at once for each row."""
    length_penalty: float = 1.0
    """``a`` in ``score = log_prob / length**a``, where the length counts the end symbol: the
    exponent rule of fairseq and transformers. 0 compares plain probabilities, which favours short
    sequences; 1 compares means per symbol."""
    keep: int = 1
    """Finished hypotheses that are returned for each row, the best first."""

    def __post_init__(self) -> None:
        faults = []
        if self.width < 1:
            faults.append(f"`width` must be at least 1, but is {self.width}")
        if not self.length_penalty >= 0:
            faults.append(f"`length_penalty` must be at least 0, but is {self.length_penalty}")
        if not 1 <= self.keep <= max(1, self.width):
            faults.append(f"`keep` must be from 1 to `width`, but is {self.keep}")
        if faults:
            raise InvalidValueError(what="Beam", faults=faults)


@dataclass(frozen=True, order=True)
class Hypothesis:
    """A finished sequence. The better of two is the greater."""

    score: float
    """``log_prob / length**length_penalty``, by which hypotheses of a row are ordered."""
    log_prob: float
    """In nats, with that of the end symbol."""
    symbols: tuple[int, ...]
    """Without the start and the end symbol."""


class Candidates(NamedTuple):
    """Continuations of some hypotheses, the likeliest first; each ``[A, C]``."""

    log_probs: Tensor
    """Of the whole sequence."""
    parents: Tensor
    """Which of the ``K`` hypotheses each continues."""
    symbols: Tensor
    """With what."""


def best_candidates(log_probs: Tensor, following: Tensor, count: int) -> Candidates:
    """The ``count`` likeliest continuations of each row's hypotheses.

    Args:
        log_probs: of the hypotheses, ``[A, K]``, ``-inf`` where there is none.
        following: of each next symbol, ``[A, K, V]``.
        count: at most; there are no more than ``K V``.
    """
    rows, _, symbols = following.shape
    whole = (log_probs[:, :, None] + following).view(rows, -1)
    best, places = whole.topk(min(count, whole.shape[1]), dim=1)
    return Candidates(best, places // symbols, places % symbols)


def beam_search(
    scorer: Scorer[State],
    start: State,
    *,
    limits: Sequence[int],
    first: int,
    end: int,
    beam: Beam,
    device: torch.device | str = "cpu",
) -> list[list[Hypothesis]]:
    """The best finished sequences of each row.

    A hypothesis that ends among the ``width`` likeliest candidates is finished, and kept whatever
    comes later; the ``width`` likeliest others go on. A row is done when nothing that could still
    come would be among the best ``keep``: log-probabilities only fall, so a hypothesis cannot get
    a better score than its present log-probability would have at the greatest length. At that
    length only the end symbol is allowed.

    Args:
        scorer: of the model.
        start: its state before the first symbol, with one row for each of ``B`` sources.
        limits: most symbols of each source's sequences, with the end symbol; ``B`` numbers.
        first: the symbol that stands before every sequence.
        end: the symbol that finishes one.
        beam: how.
        device: where the scorer wants its symbols.
    Returns:
        For each source at least one and at most ``beam.keep`` hypotheses, the best first.
    Raises:
        InvalidValueError: a limit is below 1.
        NoFiniteScoreError: a score is not a number, or a row has come to its limit without a
            sequence that may end.
    """
    check_limits(limits)
    search = _Search(limits, beam, device)
    symbols = torch.full((len(limits),), first, dtype=torch.long, device=device)
    following, state = scorer.step(symbols, start)
    following = following[:, None]
    while True:
        parents = search.extend(following, end)
        if not len(search.active):
            return search.finished
        following, state = scorer.step(search.last, scorer.reorder(state, parents))
        following = following.view(len(search.active), -1, following.shape[-1])


class _Search:
    """Hypotheses of the rows that still have some: ``A`` rows, ``K`` hypotheses of each."""

    def __init__(self, limits: Sequence[int], beam: Beam, device: torch.device | str) -> None:
        self.finished: list[list[Hypothesis]] = [[] for _ in limits]
        self.active = list(range(len(limits)))
        self._limits, self._beam = limits, beam
        self._log_probs = torch.zeros(len(limits), 1, device=device)
        self._symbols = torch.empty(len(limits), 1, 0, dtype=torch.long, device=device)

    @property
    def last(self) -> Tensor:
        """The symbol that each hypothesis was last continued with, ``[A K]``."""
        return self._symbols[:, :, -1].flatten()

    def extend(self, following: Tensor, end: int) -> Tensor:
        """Continue each hypothesis by one symbol, and let go of the rows that are done.

        Args:
            following: log-probabilities of the next symbol, ``[A, K, V]``.
            end: the symbol that finishes a sequence.
        Returns:
            Which of the ``A K`` hypotheses before each of those after continues.
        """
        length, width = self._symbols.shape[2] + 1, self._log_probs.shape[1]
        self._only_the_end_at_the_limit(following, end, length)
        found = best_candidates(self._log_probs, following, 2 * self._beam.width)
        self._keep_finished(found, end, length)
        self._check_finite(found, length)
        going_on = found.log_probs.masked_fill(found.symbols == end, -torch.inf)
        log_probs, order = going_on.topk(min(self._beam.width, going_on.shape[1]), dim=1)
        parents, symbols = found.parents.gather(1, order), found.symbols.gather(1, order)
        rows = self._unfinished(log_probs, length)
        offsets = torch.tensor(rows, dtype=torch.long, device=parents.device)
        parents = parents[offsets]
        history = self._symbols[offsets].gather(1, parents[:, :, None].expand(-1, -1, length - 1))
        self._symbols = torch.cat((history, symbols[offsets][:, :, None]), dim=2)
        self._log_probs = log_probs[offsets]
        self.active = [self.active[row] for row in rows]
        return (offsets[:, None] * width + parents).flatten()

    def _only_the_end_at_the_limit(self, following: Tensor, end: int, length: int) -> None:
        last = [i for i, row in enumerate(self.active) if self._limits[row] == length]
        if last:
            at_end = following[last, :, end]
            following[last] = -torch.inf
            following[last, :, end] = at_end

    def _keep_finished(self, found: Candidates, end: int, length: int) -> None:
        """Those that end among the likeliest ``width`` candidates; the best ``keep`` of a row."""
        width = self._beam.width
        ended = (found.symbols[:, :width] == end) & found.log_probs[:, :width].isfinite()
        for place, rank in ended.nonzero().tolist():
            symbols = self._symbols[place, int(found.parents[place, rank])]
            log_prob = float(found.log_probs[place, rank])
            made = Hypothesis(self._score(log_prob, length), log_prob, tuple(symbols.tolist()))
            kept = self.finished[self.active[place]]
            kept.append(made)
            kept.sort(reverse=True)
            del kept[self._beam.keep :]

    def _check_finite(self, found: Candidates, length: int) -> None:
        """Of the likeliest candidates alone: what is not a number is taken for the greatest."""
        for place, best in enumerate(found.log_probs[:, 0].tolist()):
            row = self.active[place]
            over = best == -math.inf and self.finished[row]  # it only cannot go on
            if not (math.isfinite(best) or over):
                raise NoFiniteScoreError(row=row, position=length)

    def _unfinished(self, log_probs: Tensor, length: int) -> list[int]:
        """The places of rows for which something better may come."""
        places = []
        for place, best in enumerate(log_probs[:, 0].tolist()):
            row = self.active[place]
            limit, kept = self._limits[row], self.finished[row]
            if best == -torch.inf or length == limit:
                continue
            reachable = self._score(best, limit)
            if len(kept) < self._beam.keep or reachable > kept[-1].score:
                places.append(place)
        return places

    def _score(self, log_prob: float, length: int) -> float:
        return float(log_prob / length**self._beam.length_penalty)


def check_limits(limits: Sequence[int]) -> None:
    """Refuse a search that must be over before its first symbol.

    Raises:
        InvalidValueError: a limit is below 1.
    """
    if faults := [f"the limit of row {i} is {n}" for i, n in enumerate(limits) if n < 1]:
        needs = "each row must have room for its end symbol, a limit of at least 1"
        raise InvalidValueError(what="search", faults=[f"{needs}, but {', '.join(faults[:3])}"])
