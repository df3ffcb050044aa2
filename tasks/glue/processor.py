"""Tokenizer and model building of a GLUE task, which are saved beside a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.models.matched import Architecture, MatchedClassifier, MatchedConfig
from embshare.tasks.glue.config import GlueConfig
from embshare.tasks.glue.data import HIGHEST, TASKS, GlueTask
from embshare.tasks.probing import check_kinds, read_longest
from embshare.tasks.text.rows import outputs
from embshare.tasks.text.starting import Start

__all__ = ["GlueProcessor"]

MIDDLE: Final = HIGHEST / 2
"""Offset of the targets of a regression, since a new head predicts 0 for everything."""


@final
@dataclass(frozen=True)
class GlueProcessor:
    """Encodes sentences as tokens, and decodes the outputs of models to labels."""

    config: GlueConfig
    start: Start

    @property
    def task(self) -> GlueTask:
        """The task's row of the table."""
        return TASKS[self.config.name]

    @cached_property
    def kinds(self) -> bool:
        """Whether models get token type ids, which say of which sentence a token is."""
        if not self.task.pairs:
            return False
        if self.config.token_types is None:
            return self.config.tokenizer is None or self.start.tokenizer.knows_kinds
        return self.config.token_types

    def save(self, folder: Path) -> None:
        """Write vocabulary and sizes."""
        self.start.save(folder)

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """Build the config of one architecture."""
        return self.start.model_config(
            architecture, dropout=self.config.dropout, labels=self.task.outputs
        )

    def build(self, model: str, seed: int) -> nn.Module:
        """Build a classifier or a regression; of transformers, one of sequence classification.

        Where `GlueConfig.init_from` names a run, the model is that run's, with a new head; shared
        by the same plan, with a dense head, if that one is shared.

        Raises:
            ModelNotForTaskError: there is no such model, its table is too small, it is not the
                one of the run, it has no kinds of sentences where they are asked for, or it cannot
                read inputs of `GlueConfig.length`.
            EmbshareError: the run's weights cannot be read.
        """
        labels = self.task.labels or ("score",)
        changes: dict[str, object] = {
            "num_labels": self.task.outputs,
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
        }
        made = self.start.build(
            model,
            seed=seed,
            matched=lambda kind: MatchedClassifier(self.model_config(kind), pairs=self.kinds),
            auto="AutoModelForSequenceClassification",
            changes=changes,
        )
        if self.kinds:
            check_kinds(model, made)
        self.check_reads(model, made)
        return made

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Let a model read an input of ``length`` tokens.

        Raises:
            ModelNotForTaskError: it cannot.
        """
        length = self.config.length
        read_longest(name, model, self.start.tokenizer, length, kinds=self.kinds)

    def encode(self, texts: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
        """Encode examples as inputs of a model."""
        found = self.start.tokenizer.encode(texts, length=self.config.length, kinds=self.kinds)
        return [dict(row) for row in found]

    def decide(self, model: nn.Module, rows: Sequence[dict[str, Any]]) -> list[float]:
        """Predict the number of the most probable class, or the score, of each row."""
        batch_size = self.config.training.eval_batch_size
        found = [0.0] * len(rows)
        pad = self.start.tokenizer.pad
        for index, (logits,) in outputs(model, rows, pad, batch_size=batch_size, each=_logits):
            found[index] = self._decide(logits)
        return found

    def _decide(self, logits: Tensor) -> float:
        return logits.item() + MIDDLE if self.task.labels is None else int(logits.argmax())

    def target(self, label: float) -> float:
        """Convert a label to the target of the loss; `decide` converts back."""
        return label - MIDDLE if self.task.labels is None else label

    def write(self, decision: float) -> str:
        """Format a prediction for the GLUE server: a class's name, or a score from 0 to 5."""
        if self.task.labels is None:
            return f"{min(max(decision, 0.0), HIGHEST):.3f}"
        return self.task.labels[int(decision)]

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """Predict a label, or a score, for each line: a sentence, or two with a tab between.

        Raises:
            InvalidValueError: a line has another number of sentences.
        """
        texts: list[tuple[str, ...]] = []
        for number, line in enumerate(inputs, 1):
            texts.append(self._sentences(number, line))
            if len(texts) == self.config.training.eval_batch_size:
                yield from self._labels(model, texts)
                texts = []
        yield from self._labels(model, texts)

    def _labels(self, model: nn.Module, texts: Sequence[tuple[str, ...]]) -> Iterator[str]:
        yield from map(self.write, self.decide(model, self.encode(texts)))

    def _sentences(self, number: int, line: str) -> tuple[str, ...]:
        texts = tuple(line.rstrip("\r\n").split("\t"))
        if len(texts) != (needs := len(self.task.fields)):
            wanted = "two sentences with a tab between" if needs == 2 else "one sentence, no tab"
            fault = f"line {number:,} must hold {wanted}, but has {len(texts)} part(s)"
            raise InvalidValueError(what="the input", faults=[fault])
        return texts


def _logits(output: Any) -> tuple[Tensor, ...]:
    return (output["logits"],)
