"""What a step and a sentence cost with this version, against another checkout of the library.

    python benchmarks/versions.py --against ../before --out benchmarks/results/versions.json
    python benchmarks/versions.py --table benchmarks/results/versions.json

Each version has its own process that builds the shared models of `speed.py` and waits. They
run what is measured in turns, A B B A, so that only one works at a time, and the
ratio is that of the medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from records import options, report
from speed import BUILDERS, LARGE, evaluation, keep_pages, training

import embshare

CONFIGS: tuple[dict[str, Any], ...] = ({}, {"factor": 128})
PARTS = ("step", "large_step", "sentence", "sentence_alone")
VOCABULARY = 8000


class Version:
    """A process with one checkout of the library."""

    def __init__(self, checkout: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work"],
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        imported = Path(self.ask(None))
        if not imported.is_relative_to(checkout):
            raise SystemExit(f"{checkout} holds no embshare: {imported} was imported")

    def ask(self, order: Any) -> Any:
        """The answer to an order."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a version's process ended; its error is above")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def work() -> None:
    """Answer orders: the library's path, a model to build, or a part to run once, in ms."""
    sys.stdout, answers = sys.stderr, sys.stdout  # whatever else is printed is no answer
    model: torch.nn.Module = torch.nn.Module()
    runs: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        match json.loads(line):
            case None:
                answer: Any = embshare.__file__
            case [name, fields]:
                torch.manual_seed(0)
                config = embshare.ShareConfig(**fields)
                model = embshare.share_from_embedding(BUILDERS[name](), config)
                runs = {
                    "step": training(model, VOCABULARY),
                    "large_step": training(model, VOCABULARY, LARGE),
                    "sentence_alone": evaluation(model, VOCABULARY),
                }
                answer = sum(p.numel() for p in model.parameters())
            case part:
                with ExitStack() as block:
                    if part == "sentence":
                        block.enter_context(embshare.cached(model))
                        runs["sentence_alone"]()
                    model.train("step" in part)
                    run = runs["sentence_alone" if part == "sentence" else part]
                    start = time.perf_counter()
                    run()
                    answer = (time.perf_counter() - start) * 1e3
        print(json.dumps(answer), file=answers, flush=True)


def measured(against: Path, only: str, seconds: float) -> Iterator[dict[str, Any]]:
    """A row for each model whose name holds ``only`` and each config."""
    here = Path(__file__).resolve().parents[1]
    with closing(Version(here)) as new, closing(Version(against.resolve())) as old:
        for name in BUILDERS:
            for fields in CONFIGS if only in name else ():
                if new.ask([name, fields]) != old.ask([name, fields]):
                    raise SystemExit(f"{name}: the versions store a different number of parameters")
                row: dict[str, Any] = {"model": name, "config": fields}
                for part in PARTS:
                    row[part] = compare(new, old, part, seconds)
                yield row


def compare(new: Version, old: Version, part: str, seconds: float) -> dict[str, float]:
    """Medians of both in milliseconds, after a warm-up, in turns."""
    turns: list[tuple[list[float], Version]] = [([], new), ([], old)]
    for _, version in turns * 2:
        version.ask(part)
    times = turns[0][0], turns[1][0]
    begun = time.perf_counter()
    while len(times[0]) < 6 or time.perf_counter() - begun < seconds:
        for kept, version in turns:
            kept.append(version.ask(part))
        turns.reverse()
    ours, theirs = map(statistics.median, times)
    return {"ms": ours, "before_ms": theirs, "ratio": ours / theirs, "runs": len(times[0])}


def table(results: Sequence[dict[str, Any]]) -> str:
    """Ratios in Markdown, with this version's milliseconds in brackets."""
    lines = ["| model | shared with | " + " | ".join(p.replace("_", " ") for p in PARTS) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(PARTS))
    for row in results:
        told = " ".join(f"{key}={value}" for key, value in row["config"].items())
        cells = [f"{row[p]['ratio']:.2f} ({row[p]['ms']:.0f} ms)" for p in PARTS]
        lines.append(f"| {row['model']} | {told or 'the defaults'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, or be one of the processes."""
    keep_pages()
    parser = options(__doc__)
    parser.add_argument("--against", type=Path, help="the other checkout")
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each part, at least")
    parser.add_argument("--work", action="store_true")
    given = parser.parse_args()
    if given.work:
        work()
    elif given.table is None and given.against is None:
        parser.error("say --against, or --table")
    else:
        report(given, table, measured(given.against, given.only, given.seconds))


if __name__ == "__main__":
    main()
