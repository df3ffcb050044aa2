"""What a trained model of SQuAD needs beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.models.matched import Architecture, MatchedConfig, MatchedSpans
from embshare.tasks.probing import check_kinds, read_longest
from embshare.tasks.squad.answers import Answers, best_answers, scores_of
from embshare.tasks.squad.config import SquadConfig
from embshare.tasks.squad.reading import Question
from embshare.tasks.squad.windows import Window, make_windows
from embshare.tasks.text.rows import outputs
from embshare.tasks.text.starting import Start

__all__ = ["SquadProcessor"]

TOGETHER: Final = 512
"""Questions whose windows and scores are in memory at once."""


@final
@dataclass(frozen=True)
class SquadProcessor:
    """From questions to windows, and from what models return to answers."""

    config: SquadConfig
    start: Start

    @cached_property
    def kinds(self) -> bool:
        """Whether models are told which symbols are the passage's."""
        if self.config.token_types is None:
            return self.config.tokenizer is None or self.start.tokenizer.knows_kinds
        return self.config.token_types

    def save(self, folder: Path) -> None:
        """Write vocabulary and sizes."""
        self.start.save(folder)

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """The model of one architecture."""
        return self.start.model_config(architecture, dropout=self.config.dropout)

    def build(self, model: str, seed: int) -> nn.Module:
        """A model that scores starts and ends; of transformers, one of question answering.

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
        """Windows have up to ``length`` symbols.

        Raises:
            ModelNotForTaskError: the model cannot read as many.
        """
        length = self.config.length
        read_longest(name, model, self.start.tokenizer, length, kinds=self.kinds)

    def windows(self, questions: Sequence[Question]) -> list[Window]:
        """All windows of some questions, in order."""
        return list(make_windows(self.start.tokenizer, questions, self.config))

    def answer(self, model: nn.Module, questions: Sequence[Question]) -> Iterator[Answers]:
        """What a model makes of each question."""
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
        """Above which odds no answer is given; ``None`` where one always is."""
        return self.config.null_threshold if self.config.unanswerable else None

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """An answer for each line: a question and its passage, with a tab between.

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
    """Windows with the places of their answers."""
    rows = []
    for window in processor.windows(questions):
        first, last = window.span(questions[window.question])
        positions = {"start_positions": first, "end_positions": last}
        rows.append({**window.inputs(kinds=processor.kinds), **positions})
    return rows
