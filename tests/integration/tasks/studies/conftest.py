"""Studies small enough to run in a test."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from embshare.tasks.measurement.provenance import read_provenance
from embshare.tasks.runs.result import RunResult
from embshare.tasks.studies.bench import BenchmarkConfig
from embshare.tasks.studies.record import TaskRecord, TrialRecord
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting import output
from embshare.tasks.studies.study_file import Compare, StudyFile, Trial
from embshare.tasks.task import Metric

SENTENCE = "the quick brown fox jumps over the lazy dog and sits down by the river\n"
LM = "language_modelling"
Small = Callable[..., StudyFile]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    words = " ".join(f"word{index}" for index in range(300))
    for split, times in (("train", 30), ("valid", 2), ("test", 3)):
        (folder / f"{split}.txt").write_text(SENTENCE * times + words + "\n")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Folder for a study."""
    return tmp_path / "out"


@pytest.fixture
def small(text: Path) -> Small:
    """A study of tiny language models; keywords are axes and, as ``fixed``, more options."""

    def make(fixed: dict[str, Any] | None = None, **axes: Any) -> StudyFile:
        same: dict[str, Any] = {"data": str(text), "level": "word", "vocabulary_size": None}
        sizes = {"width": 16, "layers": 2, "heads": 2, "length": 12}
        same |= sizes | {"steps": 6, "batch_size": 4} | (fixed or {})
        return StudyFile(name="small", task=LM, fixed=same, axes=axes or {"model": ("conv",)})

    return make


@pytest.fixture
def bench(text: Path) -> Callable[..., StudyFile]:
    """The benchmark of those models."""

    def make(**fields: Any) -> StudyFile:
        settings = {
            "data": text,
            "level": "word",
            "vocabulary_size": None,
            "width": 16,
            "layers": 2,
            "heads": 2,
            "length": 12,
            "training": {"steps": 6, "batch_size": 4},
        }
        same: dict[str, Any] = {"tasks": (LM,), "settings": {LM: settings}, "seeds": (0, 1)}
        same["methods"] = ("dense", "eps", "veps")
        study = BenchmarkConfig(**(same | fields)).study()
        return study.model_copy(update={"compare": Compare()})

    return make


@pytest.fixture
def report(bench: Callable[..., StudyFile], out: Path) -> StudyReport:
    """A report made up without training: methods differ in size, seeds in quality."""
    study = bench()
    metric = Metric(name="perplexity", label="test perplexity", better="lower")
    return StudyReport(
        study=study,
        provenance=read_provenance(),
        tasks=(TaskRecord(name=LM, metric=metric, data={"text": "made up"}),),
        trials=tuple(made_up(trial) for trial in study.trials(out)),
    )


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures out, which take seconds."""
    made = dict.fromkeys(("bytes", "parameters", "time"), b"<svg/>")
    monkeypatch.setattr(output, "_figures", lambda *_: made)


def made_up(trial: Trial) -> TrialRecord:
    """A record of a trial that nobody ran."""
    stored = {"dense": 400_000, "eps": 190_000, "veps": 200_000}[trial.labels["method"]]
    quality = {"lstm": 150.0, "conv": 130.0, "attention": 140.0}[trial.labels["model"]]
    result = RunResult(
        task=trial.config.task,
        metric="perplexity",
        metrics={"perplexity": quality + 2.0 * trial.config.seed},
        stored_parameters=stored,
        bytes=4 * stored,
        read_parameters=600_000,
        hidden_parameters=50_000,
        steps=6,
        seconds=3.0,
        training_loss=5.0,
        ms_per_step=12.5,
        peak_mib=900.0,
        resident_mib=860.0,
        seed=trial.config.seed,
        config=trial.config,
        data={"text": "made up"},
        provenance=read_provenance(),
    )
    own = sha256(trial.name.encode()).hexdigest()[:16]
    return TrialRecord(id=own, name=trial.name, labels=dict(trial.labels), result=result)


def with_first_metric(report: StudyReport, *values: float) -> StudyReport:
    """The report with other values of the metric in its first trials."""
    trials = list(report.trials)
    for index, value in enumerate(values):
        result = trials[index].result.model_copy(update={"metrics": {"perplexity": value}})
        trials[index] = trials[index].model_copy(update={"result": result})
    return report.model_copy(update={"trials": tuple(trials)})
