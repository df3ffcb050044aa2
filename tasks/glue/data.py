"""The nine tasks as one table, and their data: files of GLUE, JSON lines, or a set of the hub."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.glue.config import GlueName
from embshare.tasks.hub import load_splits
from embshare.tasks.text.files import read_lines

__all__ = ["HIGHEST", "TASKS", "Data", "Example", "GlueTask", "Part", "read_folder", "read_hub"]

HIGHEST: Final = 5.0
"""Highest score of STS-B."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of a task: a split, or a part of one."""

    stems: tuple[str, ...]
    """Names that its file may have, without ``.tsv`` or ``.jsonl``; the published one first."""
    hub: str
    """The split's name on the hub."""
    config: str | None = None
    """The hub's name of the task, where it is another one."""
    folder: str | None = None
    """Folder of the file, beside the task's, where that is another one."""
    prefix: str = ""
    """Prefix of the names of its metrics."""
    submission: str | None = None
    """File of predictions that the GLUE server takes; ``None``: named after the task's folder."""
    needed: bool = False
    """Whether the task cannot be done without it."""


TRAIN: Final = Part(stems=("train",), hub="train", needed=True)
DEV: Final = Part(stems=("dev", "valid", "validation"), hub="validation", needed=True)
TEST: Final = Part(stems=("test",), hub="test")


@dataclass(frozen=True, kw_only=True)
class GlueTask:
    """What makes one task different from the others."""

    name: GlueName
    folder: str
    """Folder in the GLUE download."""
    fields: tuple[str, ...]
    """Names of the one or two sentences on the hub and in ``.jsonl`` files, where the label is
    ``label``."""
    columns: tuple[str, ...] = ()
    """Names of the same in the header of a ``.tsv`` file, where they are others."""
    label: str = "label"
    """The column of the label in a ``.tsv`` file."""
    labels: tuple[str, ...] | None = ("0", "1")
    """The classes as files spell them, in the hub's order; ``None``: a score from 0 to 5."""
    metrics: tuple[str, ...] = ("accuracy",)
    """Names of `embshare.tasks.glue.metrics`."""
    bare: tuple[str, ...] | None = None
    """The columns of files with labels, where those have no header."""
    dev: tuple[Part, ...] = (DEV,)
    test: tuple[Part, ...] = (TEST,)

    @property
    def pairs(self) -> bool:
        """Whether an example is two sentences."""
        return len(self.fields) == 2

    @property
    def outputs(self) -> int:
        """Number of a model's outputs: one for each class, or a score."""
        return 1 if self.labels is None else len(self.labels)

    def parse(self, label: object) -> float | int | None:
        """The label of a file as a number; ``None`` where it is not one of the task's."""
        if self.labels is None:
            try:
                score = float(str(label))
            except ValueError:
                return None
            return score if math.isfinite(score) and 0 <= score <= HIGHEST else None
        if isinstance(label, int) and not isinstance(label, bool):
            return label if 0 <= label < len(self.labels) else None
        return self.labels.index(label) if label in self.labels else None


SENTENCES: Final = ("sentence1", "sentence2")
QUESTIONS: Final = ("question1", "question2")
ENTAILED: Final = ("entailment", "not_entailment")
CORRELATIONS: Final = ("pearson", "spearman")
PARAPHRASE: Final = ("f1", "accuracy")
MNLI_DEV: Final = (
    Part(stems=("dev_matched", *DEV.stems), hub="validation_matched", needed=True),
    Part(stems=("dev_mismatched",), hub="validation_mismatched", prefix="mismatched_"),
)
MNLI_TEST: Final = (
    Part(stems=("test_matched",), hub="test_matched", submission="MNLI-m.tsv"),
    Part(stems=("test_mismatched",), hub="test_mismatched", submission="MNLI-mm.tsv"),
    Part(stems=("diagnostic",), hub="test", config="ax", folder="diagnostic", submission="AX.tsv"),
)

_TABLE: Final = (
    GlueTask(
        name="cola",
        folder="CoLA",
        fields=("sentence",),
        bare=("source", "label", "mark", "sentence"),
        metrics=("mcc",),
    ),
    GlueTask(name="sst2", folder="SST-2", fields=("sentence",)),
    GlueTask(
        name="mrpc",
        folder="MRPC",
        fields=SENTENCES,
        columns=("#1 String", "#2 String"),
        label="Quality",
        metrics=PARAPHRASE,
    ),
    GlueTask(
        name="stsb",
        folder="STS-B",
        fields=SENTENCES,
        label="score",
        labels=None,
        metrics=CORRELATIONS,
    ),
    GlueTask(name="qqp", folder="QQP", fields=QUESTIONS, label="is_duplicate", metrics=PARAPHRASE),
    GlueTask(
        name="mnli",
        folder="MNLI",
        fields=("premise", "hypothesis"),
        columns=SENTENCES,
        label="gold_label",
        labels=("entailment", "neutral", "contradiction"),
        dev=MNLI_DEV,
        test=MNLI_TEST,
    ),
    GlueTask(name="qnli", folder="QNLI", fields=("question", "sentence"), labels=ENTAILED),
    GlueTask(name="rte", folder="RTE", fields=SENTENCES, labels=ENTAILED),
    GlueTask(name="wnli", folder="WNLI", fields=SENTENCES),
)
TASKS: Final[Mapping[GlueName, GlueTask]] = MappingProxyType({task.name: task for task in _TABLE})
"""The tasks by the names that the hub has for them."""


@dataclass(frozen=True)
class Example:
    """One or two sentences, and what is to be said of them."""

    index: str
    """The GLUE server's name of it."""
    texts: tuple[str, ...]
    label: float | int | None
    """A class's number, or a score; ``None`` in a test set."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """All parts of a task that are there."""

    name: str
    """Source, for a report."""
    train: tuple[Example, ...]
    dev: Mapping[Part, tuple[Example, ...]]
    test: Mapping[Part, tuple[Example, ...]]
    skipped: int = 0
    """Number of lines that were left out because they are not as they must be."""
    absent: tuple[str, ...] = ()
    """Parts that the task can do without and that were looked for, by their published names."""


def read_folder(
    task: GlueTask,
    folder: Path,
    *,
    train: bool = True,
    skip_bad_rows: bool = False,
    test_set: bool = True,
) -> Data:
    """Read a task from the folder of all GLUE tasks, or from its own one.

    The files are read here and not by ``datasets``, whose readers fill short lines with nothing
    and name no line.

    Args:
        task: a row of the table.
        folder: ``glue_data`` with ``CoLA`` in it, or that ``CoLA``.
        train: whether the training set is read; it need not be there to score a model.
        skip_bad_rows: leave out lines of wrong column counts and labels, and count them; those of
            the test set never.
        test_set: whether it is read, as far as it is there.
    Raises:
        DataError: a file that is needed is missing; or one is empty, not UTF-8, or a line of it is
            not as it must be.
    """
    home = folder / task.folder if (folder / task.folder).is_dir() else folder

    def read(part: Part, labelled: bool) -> tuple[list[Example], int] | None:
        path = _find(home, part, task)
        if path is None:
            return None
        found, skipped = _Reader(task, path, labelled).read(skip=skip_bad_rows and labelled)
        if not found:
            raise DataError(
                path,
                needs=f"hold rows of {task.folder}",
                has="has none",
                hint="Fetch the file again, or name another folder.",
            )
        return found, skipped

    return _gather(task, str(home), read, train=train, test_set=test_set)


def read_hub(task: GlueTask, name: str, *, train: bool = True, test_set: bool = True) -> Data:
    """Load a task with the package ``datasets``; rows are checked as those of files are.

    Args:
        task: a row of the table.
        name: of the set on the hub (``nyu-mll/glue``), or a folder with such a set.
        train: as in `read_folder`.
        test_set: whether it is read, as far as it is there.
    Raises:
        DataError: there is no such set, it cannot be fetched, a split that is needed is missing or
            has no rows, or a row is not as it must be.
    """
    load = functools.cache(functools.partial(load_splits, name))
    hint = "Name a data set with GLUE's configurations, or a folder of your own with `data`."

    def read(part: Part, labelled: bool) -> tuple[list[Example], int] | None:
        config = part.config or task.name
        rows = load(config).get(part.hub)
        if rows is None and not part.needed:
            return None
        if not rows:
            has = "has no such split" if rows is None else "it has none"
            raise MissingDataError(
                Path(name), f"{config}/{part.hub}", needs="hold rows", has=has, hint=hint
            )
        reader = _Reader(task, Path(name), labelled, hint)
        return [reader.example(f"{part.hub}[{n}]", n, row) for n, row in enumerate(rows)], 0

    return _gather(task, name, read, train=train, test_set=test_set)


def _gather(
    task: GlueTask,
    name: str,
    read: Callable[[Part, bool], tuple[list[Example], int] | None],
    *,
    train: bool,
    test_set: bool,
) -> Data:
    """All parts that are asked for and there.

    Args:
        task: a row of the table.
        name: of the source.
        read: from a part, and whether it has labels, to its examples and the number of lines that
            were left out; ``None`` where a part is absent.
        train: whether the training set is read.
        test_set: whether the test set is read.
    """
    found: dict[Part, tuple[Example, ...]] = {}
    absent, skipped = [], 0
    trains, tests = (TRAIN,) if train else (), task.test if test_set else ()
    for part in (*trains, *task.dev, *tests):
        there = read(part, part not in tests)
        if there is None:
            absent.append(part.stems[0])
        else:
            found[part], skipped = tuple(there[0]), skipped + there[1]
    return Data(
        name=name,
        train=found.get(TRAIN, ()),
        dev={part: found[part] for part in task.dev if part in found},
        test={part: found[part] for part in tests if part in found},
        skipped=skipped,
        absent=tuple(absent),
    )


def _find(home: Path, part: Part, task: GlueTask) -> Path | None:
    place = home if part.folder is None else home.parent / part.folder
    names = [f"{stem}{ending}" for stem in part.stems for ending in (".tsv", ".jsonl")]
    for path in (place / name for name in names):
        if path.is_file():
            return path
    if not part.needed:
        return None
    there = sorted(path.name for path in home.iterdir())[:8] if home.is_dir() else None
    raise MissingDataError(
        home,
        needs=f"be a folder with {part.stems[0]}.tsv (or .jsonl) of {task.folder}",
        has="is not there" if there is None else f"holds {', '.join(there) or 'nothing'}",
        hint="Name the folder of the GLUE download, or of this task in it.",
    )


@dataclass(frozen=True)
class _Reader:
    """Reads one file, or one split of the hub, and checks each row."""

    task: GlueTask
    path: Path
    labelled: bool
    hint: str = ""

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns that a row must have, by the hub's names."""
        return (*self.task.fields, "label") if self.labelled else self.task.fields

    def read(self, *, skip: bool) -> tuple[list[Example], int]:
        """All rows of a file, and the number of those that were left out."""
        lines = read_lines(self.path)
        row: Callable[[int, str], object] = self._object
        first = 0
        if self.path.suffix == ".tsv":
            bare = self.task.bare if self.labelled else None
            row = functools.partial(self._cells, bare or self._header(lines))
            first = 0 if bare else 1
        found, skipped = [], 0
        for number, line in enumerate(lines[first:], first + 1):
            try:
                found.append(self.example(number, number - first - 1, row(number, line)))
            except DataError:
                if not skip:
                    raise
                skipped += 1
        return found, skipped

    def _header(self, lines: list[str]) -> tuple[str, ...]:
        """The columns of a ``.tsv`` file, by the hub's names."""
        task, columns = self.task, lines[0].split("\t") if lines else []
        renamed = dict(zip(task.columns or task.fields, task.fields, strict=True))
        renamed |= {task.label: "label", "index": "idx"}
        missing = [c for c, name in renamed.items() if name in self.wanted and c not in columns]
        if missing:
            raise DataError(
                self.path,
                1,
                needs=f"name the column `{missing[0]}`",
                has=f"has {', '.join(f'`{name}`' for name in columns) or 'none'}",
                hint=f"Take the file of GLUE's {task.folder}.",
            )
        return tuple(renamed.get(column, column) for column in columns)

    def _cells(self, header: tuple[str, ...], number: int, line: str) -> dict[str, str]:
        cells = line.split("\t")
        if len(cells) != len(header):
            needs = f"have {len(header)} columns with tabs between"
            raise self._fault(number, needs, f"has {len(cells)}")
        return dict(zip(header, cells, strict=True))

    def _object(self, number: int, line: str) -> object:
        try:
            return json.loads(line)
        except ValueError:
            return None

    def example(self, place: int | str, number: int, row: Any) -> Example:
        """Check a row.

        Args:
            place: line of the file, or name of the entry.
            number: of the row, from 0.
            row: with the hub's names.
        Raises:
            DataError: it lacks a sentence or a label, or has another label than the task's.
        """
        if not isinstance(row, Mapping):
            raise self._fault(place, "be a JSON object", "is none")
        if missing := [name for name in self.wanted if name not in row]:
            needs = f"have {' and '.join(f'`{name}`' for name in self.wanted)}"
            raise self._fault(place, needs, f"lacks `{missing[0]}`")
        texts = tuple(row[name] for name in self.task.fields)
        if wrong := [text for text in texts if not isinstance(text, str)]:
            raise self._fault(place, "have sentences", f"has {wrong[0]!r:.40}, which is no string")
        label = self.task.parse(row["label"]) if self.labelled else None
        if self.labelled and label is None:
            needs = f"have {_labels(self.task)} as its label"
            raise self._fault(place, needs, f"has {row['label']!r:.40}")
        return Example(str(row.get("idx", number)), texts, label)

    def _fault(self, place: int | str, needs: str, has: str) -> DataError:
        # A test line is not left out: the GLUE server takes a prediction for each, or none at all.
        way = "leave such lines out with `skip_bad_rows`"
        hint = (
            f"Mend the line, or {way if self.labelled else 'leave the test set out (`test_set`)'}."
        )
        return DataError(self.path, place, needs=needs, has=has, hint=self.hint or hint)


def _labels(task: GlueTask) -> str:
    """What a label can be, in words."""
    if task.labels is None:
        return f"a number from 0 to {HIGHEST:g}"
    return " or ".join((", ".join(task.labels[:-1]), task.labels[-1]))
