"""A benchmark small enough to run in a test."""

from pathlib import Path
from typing import Any

import pytest

from embshare.tasks.benchmark import BenchmarkConfig, BenchmarkReport
from embshare.tasks.benchmark.report import CellRecord, TaskRecord
from embshare.tasks.language_modelling.config import LanguageModellingConfig
from embshare.tasks.measurement.provenance import read_provenance
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Metric

SENTENCE = "the quick brown fox jumps over the lazy dog and sits down by the river\n"


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
    return BenchmarkConfig(
        seeds=(0, 1),
        out=tmp_path / "out",
        language_modelling=LanguageModellingConfig(
            data=text,
            level="word",
            vocabulary_size=None,
            width=16,
            layers=2,
            heads=2,
            length=12,
            training=TrainSettings(steps=6, batch_size=4),
        ),
    )


@pytest.fixture
def report(config: BenchmarkConfig) -> BenchmarkReport:
    """A report made up without training: methods differ in size, seeds in quality."""
    stored = {"dense": 400_000, "eps": 190_000, "veps": 200_000}
    quality = {"lstm": 150.0, "conv": 130.0, "attention": 140.0}
    records = [
        _record(
            **cell._asdict(),
            share=config.share_config(cell.method),
            stored=stored[cell.method],
            metrics={"perplexity": quality[cell.architecture] + 2.0 * cell.seed},
        )
        for cell in config.cells()
    ]
    metric = Metric(name="perplexity", label="test perplexity", better="lower")
    return BenchmarkReport(
        config=config,
        provenance=read_provenance(),
        tasks=(TaskRecord(name="language_modelling", metric=metric, data={"text": "made up"}),),
        records=tuple(records),
    )


def _record(**fields: Any) -> CellRecord:
    same: dict[str, Any] = {
        "read": 600_000,
        "bytes_on_disk": 4 * fields["stored"],
        "training_loss": 5.0,
        "ms_per_step": 12.5,
        "warmup_steps": 2,
        "peak_mib": 900.0,
        "resident_mib": 860.0,
        "peak_source": "made up",
        "seconds": 3.0,
        "fingerprint": "0",
    }
    return CellRecord(**same, **fields)
