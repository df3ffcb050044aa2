"""SIGKILL in the middle of studies: none lost, none done twice, and equal results.

Even rounds are 200 trials on the text that comes with Python, killed and resumed, then the same 200
on a Ray cluster of three nodes of which one is killed: both have equal metrics. Odd rounds are 40
trials on WikiText-2. ``EMBSHARE_DATA`` is the folder of published data sets.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd  # type: ignore[import-untyped]
from pydantic import JsonValue

from embshare.tasks.studies.store import read_report
from embshare.tasks.studies.study_file import TRIALS, StudyFile
from tests.campaigns.rounds import WRONG, Outcome, campaign_main, rng_of

__all__ = ["play"]

KILLS: Final = 3
NODES: Final = 3
TINY: Final[Mapping[str, Any]] = {"width": 16, "layers": 2, "heads": 2, "length": 16, "steps": 3}
SHARES: Final[list[JsonValue]] = [
    "none",
    {"method": "veps", "anchor": 2},
    {"method": "veps", "residual_rank": 2},
    {"method": "eps", "tie": "sequence:1"},
    {"method": "veps", "gain": "channel"},
]


def built_in() -> StudyFile:
    """200 trials."""
    return StudyFile(
        name="built-in",
        task="language_modelling",
        fixed={**TINY, "vocabulary_size": 300, "eval_limit": 8, "batch_size": 4},
        axes={"arch": ("lstm", "conv"), "share": (*SHARES,), "learning_rate": (0.01, 0.03)},
        repeats=10,
    )


def real(data: Path) -> StudyFile:
    """40 trials."""
    return StudyFile(
        name="wikitext2",
        task="language_modelling",
        fixed={**TINY, "data": str(data / "wikitext2"), "eval_limit": 64, "width": 32},
        axes={"arch": ("lstm", "conv"), "share": (*SHARES,)},
        repeats=4,
    )


def begun(file: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "embshare", "ablate", str(file), "--out", str(out), *more]
    with (out.parent / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def records(out: Path) -> dict[Path, int]:
    """The records that are written, with when."""
    return {path: path.stat().st_mtime_ns for path in (out / TRIALS).glob("*.json")}


def wait_for(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    """Wait until so many records are written, or the process has ended."""
    while process.poll() is None and len(records(out)) < count:
        time.sleep(0.02)


def killed(file: Path, out: Path, total: int, random: random.Random) -> str:
    """Run a study that is killed `KILLS` times, and say what is wrong with what it left."""
    seen: dict[Path, int] = {}
    for count in sorted(random.sample(range(1, total), KILLS)):
        process = begun(file, out, "--checkpoints")
        wait_for(process, out, count)
        time.sleep(random.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = records(out)
        if seen.items() - now.items():
            return "a record that was written has gone or was written again"
        seen = now
    if begun(file, out, "--checkpoints").wait():
        return f"it did not end well: {(out.parent / 'log.txt').read_text()[-500:]}"
    return "a record was written again" if seen.items() - records(out).items() else ""


def on_cluster(file: Path, out: Path, total: int) -> str:
    """Run a study on three nodes, of which one is killed in the middle."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster: Any = Cluster(initialize_head=True, head_node_args=node)
    try:
        others = [cluster.add_node(**node) for _ in range(NODES - 1)]
        process = begun(file, out, "--ray", cluster.address)
        wait_for(process, out, total // 2)
        cluster.remove_node(others[0], allow_graceful=False)
        if process.wait():
            return f"it did not end well: {(out.parent / 'log.txt').read_text()[-500:]}"
    finally:
        cluster.shutdown()
    return ""


def whole(study: StudyFile, out: Path) -> str:
    """What is wrong with a study that has ended."""
    report, trials = read_report(out), study.trials(out)
    wanted, found = [trial.name for trial in trials], [trial.name for trial in report.trials]
    if sorted(wanted) != sorted(found) or report.failed:
        return f"{len(found)} of {len(wanted)} trials, {len(report.failed)} failed"
    if len(records(out)) != len(wanted):
        return f"{len(records(out))} records of {len(wanted)} trials"
    if sorted(pd.read_parquet(out / "index.parquet")["name"]) != sorted(wanted):
        return "the index has other trials"
    return ""


def metrics(out: Path) -> dict[str, Any]:
    """Trial -> its metrics."""
    return {trial.name: trial.result.metrics for trial in read_report(out).trials}


def one(seed: int, number: int, folder: Path) -> Outcome:
    """One study."""
    random = rng_of(seed, number)
    data = Path(os.environ.get("EMBSHARE_DATA", "../shared/data"))
    study = real(data) if number % 2 else built_in()
    file, out = folder / "study.yaml", folder / "killed"
    file.write_text(study.to_yaml(), encoding="utf-8")
    total = len(study.trials(out))
    kind = f"{study.name}, {total} trials"
    fault = killed(file, out, total, random) or whole(study, out)
    counts = {"trials": total, "kills": KILLS}
    if not fault and not number % 2:
        nodes = folder / "nodes"
        fault = on_cluster(file, nodes, total) or whole(study, nodes)
        kind += f", and on {NODES} nodes with one killed"
        counts |= {"trials on nodes": total, "nodes killed": 1}
        if not fault and metrics(out) != metrics(nodes):
            fault = "metrics differ between processes and nodes"
    ended = f"{WRONG}: {fault.split(':')[0]}" if fault else "each trial once, equal to the end"
    return Outcome(number, kind, ended, detail=fault, counts=counts)


def play(seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Play some rounds."""
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            yield one(seed, number, Path(folder))


if __name__ == "__main__":
    campaign_main("studies", play, batch=1, settings={"kills": KILLS, "nodes": NODES})
