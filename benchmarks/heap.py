"""What a training step on CPUs gains where freed memory is kept, for each task.

    python benchmarks/heap.py --out benchmarks/results/heap.json

Each run is a process of its own, which trains the matched attention model on a task's built-in
data, with `keep_freed_memory` and without, by turns; medians over the runs of their median steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import torch

from embshare._value import Value
from embshare.tasks.catalogue import TASKS
from embshare.tasks.heap import keep_freed_memory
from embshare.tasks.measurement.memory import PeakMemory
from embshare.tasks.measurement.provenance import Provenance, read_provenance
from embshare.tasks.training import train

CASES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    **{name: (name, {}) for name in TASKS},
    "language_modelling by words": ("language_modelling", {"level": "word"}),
}
"""Name -> task, and what differs from its defaults. Words are many, and logits of that size."""


class Gain(Value):
    """One task."""

    task: str
    returned_ms: float
    """Median step where the C library gives freed memory back."""
    kept_ms: float
    ratio: float
    """Of kept to returned."""
    returned_mib: float
    """Most memory of the process while it trained, median."""
    kept_mib: float


class Report(Value):
    """All tasks, and the machine."""

    provenance: Provenance
    steps: int
    runs: int
    threads: int
    found: tuple[Gain, ...]


def trained(case: str, steps: int, threads: int, keep: bool) -> tuple[float, float]:
    """Median of a step in milliseconds, and the peak in MiB; for a process of its own."""
    if keep and not keep_freed_memory():
        raise SystemExit("this system's C library has no such option")
    torch.set_num_threads(threads)
    name, changes = CASES[case]
    entry = TASKS[name]
    settings = entry.settings_class()(**changes)
    training: Any = settings.training  # type: ignore[attr-defined]
    small = training.model_copy(update={"steps": steps, "epochs": None})
    task = entry.task(settings.model_copy(update={"training": small})).prepare(train=True)
    model = task.processor.build("attention", 0)
    with tempfile.TemporaryDirectory() as folder, PeakMemory() as memory:
        found = train(model, task.feed(), small, seed=0, folder=Path(folder), on_step=_nothing)
    return statistics.median(found.step_ms[steps // 5 :]), memory.peak_mib


def _nothing() -> None:
    pass


def measure(case: str, given: argparse.Namespace) -> Gain:
    """One task, kept and returned by turns."""
    seen: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(given.runs):
        for keep, runs in seen.items():
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                runs.append(pool.submit(trained, case, given.steps, given.threads, keep).result())
    (returned_ms, returned_mib), (kept_ms, kept_mib) = (
        (statistics.median(column) for column in zip(*runs, strict=True)) for runs in seen.values()
    )
    return Gain(
        task=case,
        returned_ms=returned_ms,
        kept_ms=kept_ms,
        ratio=kept_ms / returned_ms,
        returned_mib=returned_mib,
        kept_mib=kept_mib,
    )


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    provenance = read_provenance()
    found = []
    for case in given.case or CASES:
        line = measure(case, given)
        print(
            f"{line.task:30} {line.returned_ms:7.1f} ms, kept {line.kept_ms:7.1f} ms, "
            f"{line.ratio:.2f}; {line.returned_mib:6.0f} MiB, kept {line.kept_mib:6.0f} MiB",
            flush=True,
        )
        found.append(line)
    if given.out is not None:
        report = Report(
            provenance=provenance,
            steps=given.steps,
            runs=given.runs,
            threads=given.threads,
            found=tuple(found),
        )
        given.out.write_text(report.to_json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
