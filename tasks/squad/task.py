"""SQuAD as a task: data, training inputs, evaluation and files of predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, final

from torch import nn

from embshare.models.matched import ARCHITECTURES
from embshare.tasks.cache import hash_texts
from embshare.tasks.inputs import hub_name
from embshare.tasks.settings import TrainSettings
from embshare.tasks.squad.config import SquadConfig
from embshare.tasks.squad.data import SquadData, built_in, read_folder, read_hub
from embshare.tasks.squad.metrics import score
from embshare.tasks.squad.processor import Answers, SquadProcessor, training_rows
from embshare.tasks.task import Feed, Metric
from embshare.tasks.text.pretrained import Sizes
from embshare.tasks.text.rows import kept_rows, make_feed
from embshare.tasks.text.starting import Start

__all__ = ["PreparedSquad", "Squad"]

SAMPLES: Final = 200
"""Number of validation questions in ``samples.json``."""


@final
@dataclass(frozen=True)
class Squad:
    """The task before its data are read."""

    config: SquadConfig = field(default_factory=SquadConfig)

    def prepare(
        self, processor: SquadProcessor | None = None, *, train: bool = False
    ) -> PreparedSquad:
        """Read and check both files, and learn the vocabulary if none is given.

        With a vocabulary, and not to train, the training set is not read and need not be there.

        Raises:
            DataError: a file is missing, no JSON, or not as it must be, with its place; or the hub
                has no such set, or another one.
            TokenizerError: there is no such tokenizer.
            PretrainedRunError: `init_from` is no run that models can start from.
            MatchedConfigError: no model has these sizes.
        """
        data = self._data(train=train or processor is None)
        start = self._start(data) if processor is None else processor.start
        made = SquadProcessor(self.config, start)
        for architecture in ARCHITECTURES:
            made.model_config(architecture)
        return PreparedSquad(self.config, data, made)

    def load_processor(self, folder: Path) -> SquadProcessor:
        """Load the vocabulary and sizes of a trained model.

        Raises:
            TokenizerError: the vocabulary cannot be read.
            PretrainedRunError: the sizes cannot be read.
        """
        return SquadProcessor(self.config, Start.load(folder))

    def _data(self, *, train: bool) -> SquadData:
        if (hub := hub_name(self.config.data)) is not None:
            return read_hub(hub, self.config.version, train=train)
        if self.config.data is not None:
            return read_folder(self.config.data, self.config.version, train=train)
        return built_in(self.config.version)

    def _start(self, data: SquadData) -> Start:
        config = self.config
        passages = dict.fromkeys(question.passage for question in data.train)
        return Start.make(
            sizes=Sizes(**{name: getattr(config, name) for name in Sizes.model_fields}),
            tokenizer=config.tokenizer,
            init_from=config.init_from,
            texts=[*passages, *(question.question for question in data.train)],
            vocabulary_size=config.vocabulary_size,
        )


@final
@dataclass(frozen=True)
class PreparedSquad:
    """The task with its data."""

    config: SquadConfig
    data: SquadData
    processor: SquadProcessor

    @property
    def metric(self) -> Metric:
        """F1 of the validation set."""
        return Metric(name="f1", label="F1 of answers (%)", better="higher")

    @property
    def training(self) -> TrainSettings:
        """Training settings."""
        return self.config.training

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The training set as windows of tokens, with the places of answers."""
        questions, processor, config = self.data.train, self.processor, self.config
        if (about := processor.start.tokenizer.about) is None:
            return training_rows(processor, questions)
        content = hash_texts(
            part for q in questions for part in (q.question, q.passage, repr(q.start), *q.answers)
        )
        sizes = (config.length, config.question_length, config.stride, processor.kinds)
        return kept_rows((*about, content, *sizes), lambda: training_rows(processor, questions))

    def describe(self) -> Mapping[str, object]:
        """Describe the data: source, fingerprint, numbers of questions, windows and tokens."""
        splits = {"train": self.data.train, "dev": self.data.dev}
        digest = sha256()
        for question in (*self.data.train, *self.data.dev):
            parts = (question.question, question.passage, *question.answers, "")
            digest.update("\t".join(parts).encode())
        return {
            "task": f"SQuAD {self.config.version}",
            "data": self.data.name,
            "fingerprint": digest.hexdigest()[:16],
            "vocabulary": len(self.processor.start.tokenizer),
            "questions": {name: len(questions) for name, questions in splits.items()},
            "windows": len(self.rows),
            "tokens": sum(len(row["input_ids"]) for row in self.rows),
        }

    def feed(self) -> Feed:
        """Batch the training set, windows of about one length together."""
        from embshare.tasks.processes import process_state

        return make_feed(
            self.rows,
            self.processor.start.tokenizer.pad,
            batch_size=self.training.batch_size,
            processes=process_state().num_processes,
        )

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Compute exact match and F1; for 2.0 also by kind of question and with best thresholds.

        Writes ``predictions.json`` as the official script takes it, ``nbest_predictions.json``,
        for 2.0 ``null_odds.json``, and ``samples.json``.
        """
        questions = self.data.dev[: self.config.eval_limit]
        found = dict(
            zip(
                (question.id for question in questions),
                self.processor.answer(model, questions),
                strict=True,
            )
        )
        texts = {name: answers.text(self.processor.threshold) for name, answers in found.items()}
        odds = {name: answers.null_odds for name, answers in found.items()}
        _write(folder / "predictions.json", texts)
        _write(folder / "nbest_predictions.json", {n: _listed(a) for n, a in found.items()})
        samples = [
            {
                "source": f"{question.question}\n{question.passage}",
                "reference": " | ".join(dict.fromkeys(question.answers)),
                "prediction": texts[question.id],
            }
            for question in questions[:SAMPLES]
        ]
        _write(folder / "samples.json", samples)
        if not self.config.unanswerable:
            return score(questions, texts)
        _write(folder / "null_odds.json", odds)
        best = {name: answers.best for name, answers in found.items()}
        return score(questions, texts, odds, best)


def _listed(answers: Answers) -> list[dict[str, str | float]]:
    return [
        {"text": candidate.text, "probability": probability, "score": candidate.score}
        for candidate, probability in zip(answers.candidates, answers.probabilities(), strict=True)
    ]


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
