"""The nine tasks as rows of a table: where their files are, and what stands in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

__all__ = ["NAMES", "TASKS", "GlueName", "GlueTask", "Part"]

GlueName: TypeAlias = Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]
NAMES: Final[tuple[GlueName, ...]] = get_args(GlueName)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of a task."""

    stems: tuple[str, ...]
    """Names that its file may have, without ``.tsv`` or ``.jsonl``; the published one first."""
    hub: str
    """The split's name on the hub."""
    config: str | None = None
    """The hub's name of the task, where it is another one."""
    folder: str | None = None
    """Of its file, beside the task's, where that is another one."""
    prefix: str = ""
    """Before the names of its metrics."""
    submission: str | None = None
    """The file of predictions that the GLUE server takes."""
    needed: bool = False
    """The task cannot be done without it."""


TRAIN: Final = Part(stems=("train",), hub="train", needed=True)
DEV: Final = Part(stems=("dev", "valid", "validation"), hub="validation", needed=True)


@dataclass(frozen=True, kw_only=True)
class GlueTask:
    """What makes one task different from the others."""

    name: GlueName
    folder: str
    """In the GLUE download."""
    columns: tuple[str, ...]
    """Of the one or two sentences, in the header of a ``.tsv`` file."""
    fields: tuple[str, ...]
    """Of the same, in ``.jsonl`` files and on the hub, where the label is ``label``."""
    label: str = "label"
    """The column of the label in a ``.tsv`` file."""
    labels: tuple[str, ...] | None = ("0", "1")
    """The classes as files spell them, in the hub's order; ``None``: a score from 0 to 5."""
    metrics: tuple[str, ...] = ("accuracy",)
    """Of `embshare.tasks.glue.metrics`."""
    compare: str = "accuracy"
    """The metric that models are compared by; ``score`` is the mean of all."""
    label_of_metric: str = "accuracy (%)"
    """As a picture's axis carries it."""
    bare: tuple[str, ...] | None = None
    """The columns of files with labels, where those have no header."""
    train: Part = TRAIN
    dev: tuple[Part, ...] = (DEV,)
    test: tuple[Part, ...]

    @property
    def pairs(self) -> bool:
        """Whether a row is two sentences."""
        return len(self.columns) == 2

    @property
    def outputs(self) -> int:
        """Of a model: one for each class, or a score."""
        return 1 if self.labels is None else len(self.labels)


def _test(submission: str) -> tuple[Part, ...]:
    return (Part(stems=("test",), hub="test", submission=submission),)


SENTENCES: Final = ("sentence1", "sentence2")
ENTAILED: Final = ("entailment", "not_entailment")

TASKS: Final[Mapping[GlueName, GlueTask]] = MappingProxyType(
    {
        task.name: task
        for task in (
            GlueTask(
                name="cola",
                folder="CoLA",
                columns=("sentence",),
                fields=("sentence",),
                bare=("source", "label", "mark", "sentence"),
                metrics=("mcc",),
                compare="mcc",
                label_of_metric="Matthews correlation (x 100)",
                test=_test("CoLA.tsv"),
            ),
            GlueTask(
                name="sst2",
                folder="SST-2",
                columns=("sentence",),
                fields=("sentence",),
                test=_test("SST-2.tsv"),
            ),
            GlueTask(
                name="mrpc",
                folder="MRPC",
                columns=("#1 String", "#2 String"),
                fields=SENTENCES,
                label="Quality",
                metrics=("f1", "accuracy"),
                compare="score",
                label_of_metric="mean of F1 and accuracy (%)",
                test=_test("MRPC.tsv"),
            ),
            GlueTask(
                name="stsb",
                folder="STS-B",
                columns=SENTENCES,
                fields=SENTENCES,
                label="score",
                labels=None,
                metrics=("pearson", "spearman"),
                compare="score",
                label_of_metric="mean of Pearson's and Spearman's correlation (x 100)",
                test=_test("STS-B.tsv"),
            ),
            GlueTask(
                name="qqp",
                folder="QQP",
                columns=("question1", "question2"),
                fields=("question1", "question2"),
                label="is_duplicate",
                metrics=("f1", "accuracy"),
                compare="score",
                label_of_metric="mean of F1 and accuracy (%)",
                test=_test("QQP.tsv"),
            ),
            GlueTask(
                name="mnli",
                folder="MNLI",
                columns=SENTENCES,
                fields=("premise", "hypothesis"),
                label="gold_label",
                labels=("entailment", "neutral", "contradiction"),
                dev=(
                    Part(stems=("dev_matched", *DEV.stems), hub="validation_matched", needed=True),
                    Part(
                        stems=("dev_mismatched",), hub="validation_mismatched", prefix="mismatched_"
                    ),
                ),
                test=(
                    Part(stems=("test_matched",), hub="test_matched", submission="MNLI-m.tsv"),
                    Part(
                        stems=("test_mismatched",), hub="test_mismatched", submission="MNLI-mm.tsv"
                    ),
                    Part(
                        stems=("diagnostic",),
                        hub="test",
                        config="ax",
                        folder="diagnostic",
                        submission="AX.tsv",
                    ),
                ),
            ),
            GlueTask(
                name="qnli",
                folder="QNLI",
                columns=("question", "sentence"),
                fields=("question", "sentence"),
                labels=ENTAILED,
                test=_test("QNLI.tsv"),
            ),
            GlueTask(
                name="rte",
                folder="RTE",
                columns=SENTENCES,
                fields=SENTENCES,
                labels=ENTAILED,
                test=_test("RTE.tsv"),
            ),
            GlueTask(
                name="wnli",
                folder="WNLI",
                columns=SENTENCES,
                fields=SENTENCES,
                test=_test("WNLI.tsv"),
            ),
        )
    }
)
"""By the names that the hub has for them."""
