"""From questions to windows of tokens, and from the scores of a trained model to answers."""

# Axis letters: T positions of a window, M starts that a model has followed.

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.models.matched import Architecture, MatchedConfig, MatchedSpans
from embshare.tasks.probing import check_kinds, read_longest
from embshare.tasks.squad.config import SquadConfig
from embshare.tasks.squad.data import Question
from embshare.tasks.text.rows import outputs
from embshare.tasks.text.starting import Start
from embshare.tasks.text.tokenizer import TextTokenizer, second_sentence

__all__ = [
    "Answers",
    "Candidate",
    "SquadProcessor",
    "Window",
    "best_answers",
    "make_windows",
    "scores_of",
    "training_rows",
]


@dataclass(frozen=True)
class Window:
    """A question and a part of its passage."""

    question: int
    """The number of the question."""
    ids: list[int]
    kinds: list[int]
    """Token types: 1 from the passage on, 0 before."""
    places: list[tuple[int, int] | None]
    """The characters ``[first, last)`` of the passage of each token."""

    def inputs(self, *, kinds: bool) -> dict[str, Any]:
        """Inputs of a model."""
        row: dict[str, Any] = {"input_ids": self.ids}
        return {**row, "token_type_ids": self.kinds} if kinds else row

    def span(self, question: Question) -> tuple[int, int]:
        """Find the first and last token of the answer; 0 and 0 where it is not in this window."""
        if question.start is None:
            return 0, 0
        start, stop = question.start, question.start + len(question.answers[0])
        inside = [(i, p) for i, p in enumerate(self.places) if p is not None and p[0] < p[1]]
        if not inside or inside[0][1][0] > start or inside[-1][1][1] < stop:
            return 0, 0
        touched = [i for i, (first, last) in inside if first < stop and last > start]
        return (touched[0], touched[-1]) if touched else (0, 0)


def make_windows(
    tokenizer: TextTokenizer, questions: Sequence[Question], config: SquadConfig
) -> Iterator[Window]:
    """Cut all questions into windows, in order.

    Question and passage are encoded apart and put together as the tokenizer does with two
    sentences. Windows overlap where a passage does not fit into one.
    """
    backend = tokenizer.fast.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # a text that spells one out is ordinary text
    extra = backend.num_special_tokens_to_add(True)
    for number, question in enumerate(questions):
        asked = _question(backend, question.question, config.question_length)
        passage = backend.encode(question.passage, add_special_tokens=False)
        room = config.length - len(asked.ids) - extra
        passage.truncate(room, stride=max(0, room - config.stride))
        for part in (passage, *passage.overflowing):
            yield _window(number, backend.post_process(asked, part, True))


def _question(backend: Any, text: str, most: int) -> Any:
    """Encode the first tokens of a question. The rest is cut off the text: an encoding keeps what
    it is truncated by, and every part of a passage would be put together with all of that."""
    found = backend.encode(text, add_special_tokens=False)
    if len(found.ids) > most:
        found = backend.encode(text[: found.offsets[most - 1][1]], add_special_tokens=False)
        found.truncate(most)
    return found


def _window(number: int, encoded: Any) -> Window:
    sequences = encoded.sequence_ids
    places = [
        place if number == 1 else None
        for place, number in zip(encoded.offsets, sequences, strict=True)
    ]
    return Window(number, encoded.ids, second_sentence(sequences), places)


IMPOSSIBLE: Final = -1e9


@dataclass(frozen=True)
class Candidate:
    """A span of a passage."""

    text: str
    score: float
    """Score of its start plus that of its end."""


@dataclass(frozen=True)
class Answers:
    """Answers of a model to a question."""

    candidates: tuple[Candidate, ...]
    """Candidates, the best first; no two say the same."""
    null_odds: float
    """Margin of "no answer" over the best of them; finite without any too."""

    @property
    def best(self) -> str:
        """The best answer, whatever the odds; empty where there is no candidate."""
        return self.candidates[0].text if self.candidates else ""

    def text(self, threshold: float | None) -> str:
        """The best answer; with a threshold an empty one where the odds are above it."""
        return "" if threshold is not None and self.null_odds > threshold else self.best

    def probabilities(self) -> list[float]:
        """Probabilities of the candidates among themselves."""
        if not self.candidates:
            return []
        best = self.candidates[0].score
        weights = [math.exp(candidate.score - best) for candidate in self.candidates]
        return [weight / sum(weights) for weight in weights]


def scores_of(output: Any) -> tuple[Tensor, ...]:
    """Take the scores out of what a model returned, as tensors ``[B, ...]``.

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
    """Find the best spans of one question.

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
    """Rank a window's best spans: score, first and last token."""
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


TOGETHER: Final = 512
"""Number of questions whose windows and scores are in memory at once."""


@final
@dataclass(frozen=True)
class SquadProcessor:
    """Encodes questions as windows, and decodes the outputs of models to answers."""

    config: SquadConfig
    start: Start

    @cached_property
    def kinds(self) -> bool:
        """Whether models get token type ids, which say which tokens are the passage's."""
        if self.config.token_types is None:
            return self.config.tokenizer is None or self.start.tokenizer.knows_kinds
        return self.config.token_types

    def save(self, folder: Path) -> None:
        """Write vocabulary and sizes."""
        self.start.save(folder)

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """Build the config of one architecture."""
        return self.start.model_config(architecture, dropout=self.config.dropout)

    def build(self, model: str, seed: int) -> nn.Module:
        """Build a model that scores starts and ends; of transformers, one of question answering.

        Where `SquadConfig.init_from` names a run, the model is that run's, with a new head; shared
        by the same plan, with a dense head, if that one is shared.

        Raises:
            ModelNotForTaskError: there is no such model, its table is too small, it is not the
                one of the run, it has no kinds of sentences where they are asked for, or it
                cannot read windows of `SquadConfig.length`.
            EmbshareError: the run's weights cannot be read.
        """
        made = self.start.build(
            model,
            seed=seed,
            matched=lambda kind: MatchedSpans(self.model_config(kind)),
            auto="AutoModelForQuestionAnswering",
            changes={},
        )
        if self.kinds:
            check_kinds(model, made)
        self.check_reads(model, made)
        return made

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Let a model read a window of ``length`` tokens.

        Raises:
            ModelNotForTaskError: it cannot.
        """
        length = self.config.length
        read_longest(name, model, self.start.tokenizer, length, kinds=self.kinds)

    def windows(self, questions: Sequence[Question]) -> list[Window]:
        """Cut questions into windows, in order."""
        return list(make_windows(self.start.tokenizer, questions, self.config))

    def answer(self, model: nn.Module, questions: Sequence[Question]) -> Iterator[Answers]:
        """Answer each question."""
        for first in range(0, len(questions), TOGETHER):
            yield from self._answer(model, questions[first : first + TOGETHER])

    def _answer(self, model: nn.Module, questions: Sequence[Question]) -> Iterator[Answers]:
        windows = self.windows(questions)
        found: list[list[tuple[Window, Sequence[Tensor]]]] = [[] for _ in questions]
        rows = [window.inputs(kinds=self.kinds) for window in windows]
        pad, size = self.start.tokenizer.pad, self.config.training.eval_batch_size
        for index, scores in outputs(model, rows, pad, batch_size=size, each=scores_of):
            found[windows[index].question].append((windows[index], scores))
        for question, parts in zip(questions, found, strict=True):
            yield best_answers(question.passage, parts, self.config)

    @property
    def threshold(self) -> float | None:
        """Odds above which no answer is given; ``None`` where one always is."""
        return self.config.null_threshold if self.config.unanswerable else None

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """Answer each line: a question and its passage, with a tab between.

        Raises:
            InvalidValueError: a line has another number of parts.
        """
        for number, line in enumerate(inputs, 1):
            parts = line.rstrip("\r\n").split("\t")
            if len(parts) != 2:
                fault = (
                    f"line {number:,} must hold a question and its passage with a tab between, but "
                    f"has {len(parts)} part(s)"
                )
                raise InvalidValueError(what="the input", faults=[fault])
            question = Question(id="", question=parts[0], passage=parts[1], answers=())
            for answers in self.answer(model, [question]):
                yield answers.text(self.threshold)


def training_rows(processor: SquadProcessor, questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Cut questions into windows with the places of their answers."""
    rows = []
    for window in processor.windows(questions):
        first, last = window.span(questions[window.question])
        positions = {"start_positions": first, "end_positions": last}
        rows.append({**window.inputs(kinds=processor.kinds), **positions})
    return rows
