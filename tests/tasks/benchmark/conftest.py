"""A benchmark small enough to run in a test."""

from pathlib import Path
from typing import Any

import pytest

from embshare.tasks.benchmark import BenchmarkConfig, BenchmarkReport
from embshare.tasks.benchmark.config import Cell
from embshare.tasks.benchmark.report import TaskRecord
from embshare.tasks.measurement.provenance import read_provenance
from embshare.tasks.running.result import RunResult
from embshare.tasks.task import Metric

SENTENCE = "the quick brown fox jumps over the lazy dog and sits down by the river\n"
LM = "language_modelling"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    words = " ".join(f"word{index}" for index in range(300))
    for split, times in (("train", 30), ("valid", 2), ("test", 3)):
        (folder / f"{split}.txt").write_text(SENTENCE * times + words + "\n")
    return folder


@pytest.fixture
def config(tmp_path: Path, text: Path) -> BenchmarkConfig:
    return made(
        tmp_path,
        {
            "data": text,
            "level": "word",
            "vocabulary_size": None,
            "width": 16,
            "layers": 2,
            "heads": 2,
            "length": 12,
            "training": {"steps": 6, "batch_size": 4},
        },
    )


def made(folder: Path, settings: dict[str, Any], **fields: Any) -> BenchmarkConfig:
    """A benchmark of language modelling in this process."""
    chosen: dict[str, Any] = {"settings": {LM: settings}, "tasks": (LM,), "jobs": 1}
    chosen |= {"seeds": (0, 1), "out": folder / "out"}
    return BenchmarkConfig(**(chosen | fields))


@pytest.fixture
def report(config: BenchmarkConfig) -> BenchmarkReport:
    """A report made up without training: methods differ in size, seeds in quality."""
    stored = {"dense": 400_000, "eps": 190_000, "veps": 200_000}
    quality = {"lstm": 150.0, "conv": 130.0, "attention": 140.0}
    results = [
        _result(
            config,
            cell,
            stored_parameters=stored[cell.method],
            bytes=4 * stored[cell.method],
            metrics={"perplexity": quality[cell.architecture] + 2.0 * cell.seed},
        )
        for cell in config.cells()
    ]
    metric = Metric(name="perplexity", label="test perplexity", better="lower")
    return BenchmarkReport(
        config=config,
        provenance=read_provenance(),
        tasks=(TaskRecord(name=LM, metric=metric, data={"text": "made up"}),),
        results=tuple(results),
    )


def _result(config: BenchmarkConfig, cell: Cell, **fields: Any) -> RunResult:
    same: dict[str, Any] = {
        "task": cell.task,
        "metric": "perplexity",
        "read_parameters": 600_000,
        "hidden_parameters": 50_000,
        "steps": 6,
        "seconds": 3.0,
        "training_loss": 5.0,
        "ms_per_step": 12.5,
        "peak_mib": 900.0,
        "resident_mib": 860.0,
        "seed": cell.seed,
        "config": config.run_config(cell),
        "data": {"text": "made up"},
        "provenance": read_provenance(),
    }
    return RunResult(**same, **fields)
