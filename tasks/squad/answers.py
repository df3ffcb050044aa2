"""From scores of positions to answers: the best spans of all windows of a question."""

# Axis letters: T positions of a window, M starts that a model has followed.

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from embshare.tasks.squad.config import SquadConfig
from embshare.tasks.squad.windows import Window

__all__ = ["Answers", "Candidate", "best_answers", "scores_of"]

IMPOSSIBLE: Final = -1e9


@dataclass(frozen=True)
class Candidate:
    """A span of a passage."""

    text: str
    score: float
    """Of its start plus of its end."""


@dataclass(frozen=True)
class Answers:
    """What a model makes of a question."""

    candidates: tuple[Candidate, ...]
    """The best first; no two say the same."""
    null_odds: float
    """By how much "no answer" is better than the best of them; finite without any too."""

    @property
    def best(self) -> str:
        """The best answer, whatever the odds; empty where there is no candidate."""
        return self.candidates[0].text if self.candidates else ""

    def text(self, threshold: float | None) -> str:
        """The best answer; with a threshold an empty one where the odds are above it."""
        return "" if threshold is not None and self.null_odds > threshold else self.best

    def probabilities(self) -> list[float]:
        """Of the candidates among themselves."""
        if not self.candidates:
            return []
        best = self.candidates[0].score
        weights = [math.exp(candidate.score - best) for candidate in self.candidates]
        return [weight / sum(weights) for weight in weights]


def scores_of(output: Any) -> tuple[Tensor, ...]:
    """What a model returned, as tensors ``[B, ...]``.

    Returns:
        Starts and ends ``[B, T]``; of a model that follows some starts (ConvBERT) starts
        ``[B, T]``, ends ``[B, M, T]``, those starts ``[B, M]``, and ``[B]``, above 0 where there
        is rather no answer.
    """
    if getattr(output, "starts", None) is not None:
        return output.start_logits, output.end_logits, output.starts, output.impossible_logits
    return output["start_logits"], output["end_logits"]


def best_answers(
    passage: str,
    windows: Iterable[tuple[Window, Sequence[Tensor]]],
    config: SquadConfig,
) -> Answers:
    """The best spans of one question.

    Args:
        passage: that the windows are of.
        windows: each with its part of `scores_of`, on the CPU.
        config: how many, and how long at most.
    """
    best: dict[str, float] = {}
    nulls: list[float] = []
    odds: list[float] = []
    for window, scores in windows:
        for score, first, last in _spans(window, scores, config):
            text = _text(passage, window, first, last)
            if text and score > best.get(text, -math.inf):
                best[text] = score
        if len(scores) == 2:
            nulls.append(float(scores[0][0] + scores[1][0]))
        else:
            odds.append(float(scores[3]))
    ranked = sorted(best.items(), key=lambda item: -item[1])[: config.best]
    top = ranked[0][1] if ranked else IMPOSSIBLE  # and not -inf, which JSON cannot hold
    null_odds = min(odds) if odds else min(nulls) - top
    return Answers(tuple(Candidate(text, score) for text, score in ranked), null_odds)


def _text(passage: str, window: Window, first: int, last: int) -> str:
    begin, end = window.places[first], window.places[last]
    assert begin is not None and end is not None, "spans are of the passage"
    return passage[begin[0] : end[1]].strip()


def _spans(
    window: Window, scores: Sequence[Tensor], config: SquadConfig
) -> list[tuple[float, int, int]]:
    """Score, first and last symbol of a window's best spans."""
    inside = torch.tensor([place is not None for place in window.places])
    length = len(inside)
    starts, ends = scores[0][:length].masked_fill(~inside, IMPOSSIBLE), scores[1][..., :length]
    ends = ends.masked_fill(~inside, IMPOSSIBLE)
    if len(scores) == 2:
        firsts = starts.topk(min(config.best, length)).indices
        ends = ends.expand(len(firsts), -1)
    else:
        known = scores[2].long() < length
        firsts, ends = scores[2].long()[known], ends[known]
    lasts = ends.topk(min(config.best, length), dim=1)
    total = starts[firsts, None] + lasts.values
    width = lasts.indices - firsts[:, None]
    fits = (width >= 0) & (width < config.answer_length) & (total > IMPOSSIBLE / 2)
    rows, columns = fits.nonzero(as_tuple=True)
    return list(
        zip(
            total[rows, columns].tolist(),
            firsts[rows].tolist(),
            lasts.indices[rows, columns].tolist(),
            strict=True,
        )
    )
