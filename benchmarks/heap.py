"""What a training step on CPUs gains where freed memory is kept, for each task.

    python benchmarks/heap.py --out benchmarks/results/heap.json
    python benchmarks/heap.py --table benchmarks/results/heap.json

Each run is a separate process, which trains the matched attention model on a task's built-in
data, with `keep_freed_memory` and without, by turns; medians over the runs of their median steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import torch
from records import options, report

from embshare.tasks.catalogue import TASKS
from embshare.tasks.heap import keep_freed_memory
from embshare.tasks.measurement.memory import PeakMemory
from embshare.tasks.training import train

CASES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    **{name: (name, {}) for name in TASKS},
    "language_modelling, word-level": ("language_modelling", {"level": "word"}),
}
"""Name -> task, and what differs from its defaults. Words are many, and logits of that size."""


def trained(case: str, steps: int, threads: int, keep: bool) -> tuple[float, float]:
    """Median of a step in milliseconds, and the peak in MiB; for a separate process."""
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


def measure(case: str, given: argparse.Namespace) -> dict[str, Any]:
    """One task, kept and returned by turns: medians of steps and of peaks, and how it was done."""
    seen: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(given.runs):
        for keep, runs in seen.items():
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                runs.append(pool.submit(trained, case, given.steps, given.threads, keep).result())
    (returned_ms, returned_mib), (kept_ms, kept_mib) = (
        (statistics.median(column) for column in zip(*runs, strict=True)) for runs in seen.values()
    )
    return {
        "task": case,
        "returned_ms": returned_ms,
        "kept_ms": kept_ms,
        "ratio": kept_ms / returned_ms,
        "returned_mib": returned_mib,
        "kept_mib": kept_mib,
        "steps": given.steps,
        "runs": given.runs,
        "threads": given.threads,
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Steps and memory in Markdown."""
    lines = [
        "| task | a step | with memory kept | of the time | most memory, before and after |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in results:
        cells = [
            row["task"].replace("_", " "),
            f"{row['returned_ms']:.1f} ms",
            f"{row['kept_ms']:.1f} ms",
            f"{row['ratio']:.2f}",
            f"{row['returned_mib']:,.0f} / {row['kept_mib']:,.0f} MiB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = options(__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    report(given, table, (measure(case, given) for case in given.case or CASES))


if __name__ == "__main__":
    main()
