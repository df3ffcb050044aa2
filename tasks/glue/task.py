"""The GLUE tasks: data, training inputs, evaluation and files of predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, final

from torch import nn

from embshare.models.matched import ARCHITECTURES
from embshare.tasks.cache import hash_texts
from embshare.tasks.glue.built_in import built_in
from embshare.tasks.glue.config import GlueConfig
from embshare.tasks.glue.data import TASKS, Data, Example, GlueTask, Part, read_folder, read_hub
from embshare.tasks.glue.metrics import compared, score
from embshare.tasks.glue.processor import GlueProcessor
from embshare.tasks.inputs import hub_name
from embshare.tasks.packages import check_packages
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Feed, Metric
from embshare.tasks.text.pretrained import Sizes
from embshare.tasks.text.rows import kept_rows, make_feed
from embshare.tasks.text.starting import Start

__all__ = ["Glue", "PreparedGlue"]

SAMPLES: Final = 200
"""Number of development examples in ``samples.json``."""


@final
@dataclass(frozen=True)
class Glue:
    """One of the nine tasks, before its data are read."""

    config: GlueConfig = field(default_factory=GlueConfig)

    def prepare(
        self, processor: GlueProcessor | None = None, *, train: bool = False
    ) -> PreparedGlue:
        """Read and check all files, and learn the vocabulary if none is given.

        With a vocabulary, and not to train, the training set is not read and need not be there.

        Raises:
            DataError: a file is missing, empty, not UTF-8, or has a line that is not as it must be,
                with file and line; or the hub has no such set, or another one.
            TokenizerError: there is no such tokenizer.
            PretrainedRunError: `init_from` is no run that models can start from.
            MatchedConfigError: no model has these sizes.
            MissingPackageError: what the metrics need is not installed.
        """
        check_packages(("sklearn", "scipy"), extra="glue")
        data = self._data(train=train or processor is None)
        if processor is None:
            processor = GlueProcessor(self.config, self._start(data))
        else:
            processor = GlueProcessor(self.config, processor.start)
        for architecture in ARCHITECTURES:
            processor.model_config(architecture)
        return PreparedGlue(self.config, data, processor)

    def load_processor(self, folder: Path) -> GlueProcessor:
        """Load the vocabulary and sizes of a trained model.

        Raises:
            TokenizerError: the vocabulary cannot be read.
            PretrainedRunError: the sizes cannot be read.
        """
        return GlueProcessor(self.config, Start.load(folder))

    def _data(self, *, train: bool) -> Data:
        data = self._all_data(train=train)
        return replace(data, train=data.train[: self.config.most_rows])

    def _all_data(self, *, train: bool) -> Data:
        config, task, test = self.config, TASKS[self.config.name], self.config.test_set
        if (hub := hub_name(config.data)) is not None:
            return read_hub(task, hub.name, train=train, test_set=test)
        if config.data is not None:
            skip = config.skip_bad_rows
            return read_folder(task, config.data, train=train, skip_bad_rows=skip, test_set=test)
        return built_in(config.name)

    def _start(self, data: Data) -> Start:
        config = self.config
        return Start.make(
            sizes=Sizes(**{name: getattr(config, name) for name in Sizes.model_fields}),
            tokenizer=config.tokenizer,
            init_from=config.init_from,
            texts=(text for row in data.train for text in row.texts),
            vocabulary_size=config.vocabulary_size,
        )


@final
@dataclass(frozen=True)
class PreparedGlue:
    """One of the nine tasks with its data."""

    config: GlueConfig
    data: Data
    processor: GlueProcessor

    @property
    def task(self) -> GlueTask:
        """The task's row of the table."""
        return TASKS[self.config.name]

    @property
    def metric(self) -> Metric:
        """The task's own, on the development set: test labels are not published."""
        return compared(self.task)

    @property
    def training(self) -> TrainSettings:
        """Training settings."""
        return self.config.training

    @property
    def dev(self) -> Mapping[Part, tuple[Example, ...]]:
        """The development set as far as it is scored."""
        return {part: rows[: self.config.eval_limit] for part, rows in self.data.dev.items()}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The training set as tokens, with labels."""
        return self._labelled(self.data.train)

    @cached_property
    def dev_rows(self) -> list[dict[str, Any]]:
        """The development set as tokens, with labels; of MNLI the matched one, then the other."""
        return self._labelled([row for rows in self.dev.values() for row in rows])

    def _labelled(self, examples: Sequence[Example]) -> list[dict[str, Any]]:
        encoded = self._encoded(examples)
        for row, example in zip(encoded, examples, strict=True):
            assert example.label is not None, "training and development sets have labels"
            row["labels"] = self.processor.target(example.label)
        return encoded

    def _encoded(self, examples: Sequence[Example]) -> list[dict[str, Any]]:
        texts, processor = [row.texts for row in examples], self.processor
        about = processor.start.tokenizer.about
        if about is None:
            return processor.encode(texts)
        content = hash_texts(text for row in texts for text in row)
        key = (*about, content, self.config.length, processor.kinds, self.task.pairs)
        return kept_rows(key, lambda: processor.encode(texts))

    def describe(self) -> Mapping[str, object]:
        """Describe the data: source, fingerprint, numbers of examples and tokens, absent parts."""
        splits = {"train": self.data.train}
        splits |= {part.stems[0]: rows for part, rows in self.data.dev.items()}
        return {
            "task": self.task.folder,
            "data": self.data.name,
            "fingerprint": fingerprint([row for rows in splits.values() for row in rows]),
            "vocabulary": len(self.processor.start.tokenizer),
            "rows": {name: len(rows) for name, rows in splits.items()},
            "skipped": self.data.skipped,
            "tokens": sum(len(row["input_ids"]) for row in self.rows),
            **({"absent": list(self.data.absent)} if self.data.absent else {}),
        }

    def feed(self) -> Feed:
        """Batch the training set, examples of about one length together."""
        from embshare.tasks.processes import process_state

        return make_feed(
            self.rows,
            self.processor.start.tokenizer.pad,
            batch_size=self.training.batch_size,
            processes=process_state().num_processes,
        )

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Compute the metrics of the development set; of MNLI's other one as ``mismatched_…``.

        Predictions for the test set, where there is one, are written as the GLUE server takes them,
        which takes them all: not where the evaluation is limited. Some of the development set's
        are in ``samples.json``.
        """
        metrics: dict[str, float] = {}
        for part, rows in self.dev.items():
            predictions = self._decide(model, rows)
            metrics |= self._score(part, rows, predictions)
            if not part.prefix:
                self._write_samples(folder, rows, predictions)
        for part, rows in self.data.test.items() if self.config.eval_limit is None else ():
            self._submit(folder, part, rows, self._decide(model, rows))
        return metrics

    def scores(self, model: nn.Module) -> dict[str, float]:
        """Compute the metrics of the development set alone, `metric` first; nothing is written."""
        predictions = self.processor.decide(model, [_inputs(row) for row in self.dev_rows])
        found: dict[str, float] = {}
        for part, rows in self.dev.items():
            found |= self._score(part, rows, predictions[: len(rows)])
            predictions = predictions[len(rows) :]
        return {self.metric.name: found[self.metric.name], **found}

    def _score(
        self, part: Part, rows: Sequence[Example], predictions: Sequence[float]
    ) -> dict[str, float]:
        labels = [row.label for row in rows if row.label is not None]
        found = score(self.task, predictions, labels)
        return {f"{part.prefix}{name}": value for name, value in found.items()}

    def _decide(self, model: nn.Module, rows: Sequence[Example]) -> list[float]:
        return self.processor.decide(model, self._encoded(rows))

    def _submit(
        self, folder: Path, part: Part, rows: Sequence[Example], predictions: Sequence[float]
    ) -> None:
        lines = ["index\tprediction"]
        for row, prediction in zip(rows, predictions, strict=True):
            lines.append(f"{row.index}\t{self.processor.write(prediction)}")
        (folder / (part.submission or f"{self.task.folder}.tsv")).write_text(
            "\n".join(lines) + "\n", encoding="utf-8"
        )

    def _write_samples(
        self, folder: Path, rows: Sequence[Example], predictions: Sequence[float]
    ) -> None:
        write = self.processor.write
        samples = [
            {
                "source": "\n".join(row.texts),
                "reference": write(row.label or 0),
                "prediction": write(prediction),
            }
            for row, prediction in zip(rows[:SAMPLES], predictions, strict=False)
        ]
        text = json.dumps(samples, indent=1, ensure_ascii=False)
        (folder / "samples.json").write_text(text + "\n", encoding="utf-8")


def _inputs(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "labels"}


def fingerprint(rows: Sequence[Example]) -> str:
    """Hash all sentences and labels (the start of a SHA-256), to tell data of one name apart."""
    found = sha256()
    for row in rows:
        found.update("\t".join((*row.texts, str(row.label), "\n")).encode())
    return found.hexdigest()[:16]
