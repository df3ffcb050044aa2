"""Beam search: the best sequences that a few hypotheses for each row lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from embshare.errors import InvalidValueError
from embshare.tasks.decoding.scorer import Scorer

__all__ = ["Beam", "Candidates", "Hypothesis", "beam_search", "best_candidates"]

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
    """
    raise NotImplementedError
