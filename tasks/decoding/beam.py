"""Beam search."""

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
    """Settings of a beam search.

    Raises:
        InvalidValueError: a field is out of range.
    """

    width: int = 5
    """Beam size: hypotheses that are kept for each row."""
    length_penalty: float = 1.0
    """``a`` in ``score = log_prob / length**a``, where the length counts the end token: the
    rule of fairseq and transformers. 0 compares probabilities, which favours short sequences; 1
    compares means per token."""
    keep: int = 1
    """Number of finished hypotheses to return for each row, best first."""

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
    """A finished sequence. A better one compares as greater."""

    score: float
    """``log_prob / length**length_penalty``, by which hypotheses of a row are ordered."""
    log_prob: float
    """Natural logarithm of its probability, with the end token."""
    tokens: tuple[int, ...]
    """Tokens without start and end."""


class Candidates(NamedTuple):
    """Continuations of hypotheses, most probable first; each tensor is ``[A, C]``."""

    log_probs: Tensor
    """Log-probabilities of whole sequences."""
    parents: Tensor
    """Index of the hypothesis, of ``K``, that is continued."""
    tokens: Tensor
    """Tokens that continue them."""


def best_candidates(log_probs: Tensor, following: Tensor, count: int) -> Candidates:
    """Find the ``count`` most probable continuations of each row's hypotheses.

    Args:
        log_probs: log-probabilities of the hypotheses, ``[A, K]``, ``-inf`` where there is none.
        following: log-probabilities of each next token, ``[A, K, V]``.
        count: maximum number; there are at most ``K V``.
    """
    rows, _, vocabulary = following.shape
    whole = (log_probs[:, :, None] + following).view(rows, -1)
    best, places = whole.topk(min(count, whole.shape[1]), dim=1)
    return Candidates(best, places // vocabulary, places % vocabulary)


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
    """Find the best finished sequences of each row.

    A hypothesis that ends among the ``width`` most probable candidates is finished; the ``width``
    most probable others are continued. A row is done when no continuation can be among the best
    ``keep``: log-probabilities only fall, so a hypothesis cannot get a better score than its
    present log-probability would have at the maximum length. At that length only the end token is
    allowed.

    Args:
        scorer: scorer of the model.
        start: state before the first token, with one row for each of ``B`` sources.
        limits: maximum length of each source's sequences in tokens, with the end; ``B`` numbers.
        first: start token of every sequence.
        end: end token.
        beam: settings.
        device: device of the scorer's tokens.
    Returns:
        For each source at least one and at most ``beam.keep`` hypotheses, best first.
    Raises:
        InvalidValueError: a limit is below 1.
        NoFiniteScoreError: a score is NaN, or no sequence of a row may end at its limit.
    """
    check_limits(limits)
    search = _Search(limits, beam, device)
    tokens = torch.full((len(limits),), first, dtype=torch.long, device=device)
    following, state = scorer.step(tokens, start)
    following = following[:, None]
    while True:
        parents = search.extend(following, end)
        if not len(search.active):
            return search.finished
        following, state = scorer.step(search.last, scorer.reorder(state, parents))
        following = following.view(len(search.active), -1, following.shape[-1])


class _Search:
    """Hypotheses of the active rows: ``K`` hypotheses of each of ``A`` rows."""

    def __init__(self, limits: Sequence[int], beam: Beam, device: torch.device | str) -> None:
        self.finished: list[list[Hypothesis]] = [[] for _ in limits]
        self.active = list(range(len(limits)))
        self._limits, self._beam = limits, beam
        self._log_probs = torch.zeros(len(limits), 1, device=device)
        self._tokens = torch.empty(len(limits), 1, 0, dtype=torch.long, device=device)

    @property
    def last(self) -> Tensor:
        """Last token of each hypothesis, ``[A K]``."""
        return self._tokens[:, :, -1].flatten()

    def extend(self, following: Tensor, end: int) -> Tensor:
        """Continue each hypothesis by one token, and drop the rows that are done.

        Args:
            following: log-probabilities of the next token, ``[A, K, V]``.
            end: end token.
        Returns:
            For each new hypothesis, the index of the one of ``A K`` that it continues.
        """
        length, width = self._tokens.shape[2] + 1, self._log_probs.shape[1]
        self._force_end_at_limit(following, end, length)
        found = best_candidates(self._log_probs, following, 2 * self._beam.width)
        self._keep_finished(found, end, length)
        self._check_finite(found, length)
        continued = found.log_probs.masked_fill(found.tokens == end, -torch.inf)
        log_probs, order = continued.topk(min(self._beam.width, continued.shape[1]), dim=1)
        parents, tokens = found.parents.gather(1, order), found.tokens.gather(1, order)
        rows = self._unfinished(log_probs, length)
        offsets = torch.tensor(rows, dtype=torch.long, device=parents.device)
        parents = parents[offsets]
        history = self._tokens[offsets].gather(1, parents[:, :, None].expand(-1, -1, length - 1))
        self._tokens = torch.cat((history, tokens[offsets][:, :, None]), dim=2)
        self._log_probs = log_probs[offsets]
        self.active = [self.active[row] for row in rows]
        return (offsets[:, None] * width + parents).flatten()

    def _force_end_at_limit(self, following: Tensor, end: int, length: int) -> None:
        last = [i for i, row in enumerate(self.active) if self._limits[row] == length]
        if last:
            at_end = following[last, :, end]
            following[last] = -torch.inf
            following[last, :, end] = at_end

    def _keep_finished(self, found: Candidates, end: int, length: int) -> None:
        """Keep the best of the sequences that end among the ``width`` most probable candidates."""
        width = self._beam.width
        ended = (found.tokens[:, :width] == end) & found.log_probs[:, :width].isfinite()
        for place, rank in ended.nonzero().tolist():
            tokens = self._tokens[place, int(found.parents[place, rank])]
            log_prob = float(found.log_probs[place, rank])
            made = Hypothesis(self._score(log_prob, length), log_prob, tuple(tokens.tolist()))
            kept = self.finished[self.active[place]]
            kept.append(made)
            kept.sort(reverse=True)
            del kept[self._beam.keep :]

    def _check_finite(self, found: Candidates, length: int) -> None:
        """Check the most probable candidates; ``topk`` ranks NaN first."""
        for place, best in enumerate(found.log_probs[:, 0].tolist()):
            row = self.active[place]
            over = best == -math.inf and self.finished[row]  # it has no continuation
            if not (math.isfinite(best) or over):
                raise NoFiniteScoreError(row=row, position=length)

    def _unfinished(self, log_probs: Tensor, length: int) -> list[int]:
        """Indices of rows that may still get a better sequence."""
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
    """Check that each row has room for its end token.

    Raises:
        InvalidValueError: a limit is below 1.
    """
    if faults := [f"the limit of row {i} is {n}" for i, n in enumerate(limits) if n < 1]:
        needs = "each row must have room for its end token, a limit of at least 1"
        raise InvalidValueError(what="search", faults=[f"{needs}, but {', '.join(faults[:3])}"])
