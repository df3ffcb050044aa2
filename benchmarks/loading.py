"""How much of a training step is spent on waiting for data, for each task.

    python benchmarks/loading.py --out benchmarks/results/loading.json

Every task of the catalogue trains on its built-in data with the matched attention model. Once the
loader is read alone, batch after batch, as the trainer would; once the model is trained. The share
is that of the loader's time in the sum of the two: what a step waits where nothing is read ahead.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import default_data_collator

from embshare._value import Value
from embshare.tasks.catalogue import TASKS
from embshare.tasks.measurement.provenance import Provenance, read_provenance
from embshare.tasks.task import PreparedTask
from embshare.tasks.trainer import SharingTrainer
from embshare.tasks.training import make_arguments, train


class Loading(Value):
    """What one task's data cost."""

    task: str
    loading_ms: float
    """Median, of one batch: rows read, masked or padded, stacked."""
    step_ms: float
    """Median, of one step: forward, backward and update."""
    share: float
    """Fraction of loading in the sum of both."""
    workers: int
    """Processes that read ahead; 0 as measured: none."""


class Report(Value):
    """All tasks, and the machine."""

    provenance: Provenance
    steps: int
    found: tuple[Loading, ...]


def measure(name: str, steps: int, threads: int) -> Loading:
    """One task on its built-in data."""
    entry = TASKS[name]
    settings = entry.settings_class()()
    training: Any = settings.training  # type: ignore[attr-defined]
    small = training.model_copy(update={"steps": steps, "epochs": None, "workers": 0})
    task: PreparedTask = entry.task(settings.model_copy(update={"training": small})).prepare()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        loading = statistics.median(loading_ms(task, steps, Path(folder)))
        model = task.processor.build("attention", 0)
        trained = train(
            model, task.feed(), small, seed=0, folder=Path(folder), on_step=lambda: None
        )
    step = statistics.median(trained.step_ms[steps // 5 :])
    share = loading / (loading + step)
    return Loading(task=name, loading_ms=loading, step_ms=step, share=share, workers=0)


def loading_ms(task: PreparedTask, steps: int, folder: Path) -> Iterator[float]:
    """Milliseconds of each batch, from the loader that the trainer has."""
    feed = task.feed()
    trainer = SharingTrainer(
        model=task.processor.build("attention", 0),
        args=make_arguments(task.training, seed=0, folder=folder),
        train_dataset=feed.rows,
        data_collator=feed.collate or default_data_collator,
        hidden_lr=1.0,
        feed=feed,
    )
    batches = iter(trainer.get_train_dataloader())
    for _ in range(steps):
        begun = time.perf_counter()
        if next(batches, None) is None:
            return
        yield (time.perf_counter() - begun) * 1e3


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", help="default: all")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    names = given.tasks or list(TASKS)
    provenance = read_provenance()
    found = tuple(measure(name, given.steps, given.threads) for name in names)
    for line in found:
        print(
            f"{line.task:20} {line.loading_ms:8.2f} ms to load, {line.step_ms:8.2f} ms to train, "
            f"{line.share:6.1%}"
        )
    if given.out is not None:
        report = Report(provenance=provenance, steps=given.steps, found=found)
        given.out.write_text(report.to_json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
