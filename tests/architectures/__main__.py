"""Check every architecture of the installed libraries, and write what came out.

    python -m tests.architectures --library transformers --out benchmarks/results/coverage.json

Each architecture is made tiny where its library lets it be, and shared, run, trained for a step,
saved, loaded and materialized. One that crashes or hangs costs its own row and nothing else. The
file is written again after every few rows; ``--resume`` leaves out what it has a row of.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from embshare.errors import InvalidValueError, MissingPackageError
from embshare.tasks.measurement.provenance import read_provenance
from tests.architectures.processes import Job, check_all
from tests.architectures.results import Report, Row, Run, regressions

__all__ = ["LIBRARIES", "main"]

LIBRARIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "transformers": "tests.architectures.hf_models",
        "torchvision": "tests.architectures.vision_models",
        "timm": "tests.architectures.vision_models",
        "fairseq": "tests.architectures.fairseq_models",
    }
)
"""Library -> module with ``architectures``."""

EVERY: Final = 10
"""Rows after which a file is written again: a run is long, and may be ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        1 where something got worse than in the file that is compared with, else 0.
    """
    parser = argparse.ArgumentParser(
        "python -m tests.architectures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--library", choices=LIBRARIES, action="append", help="else all installed")
    add("--only", action="append", metavar="GLOB", help="names; may be given several times")
    add("--out", type=Path, help="JSON file; rows of others that are in it stay")
    add("--against", type=Path, help="an earlier file: exit with 1 where something got worse")
    add("--resume", action="store_true", help="leave out what that JSON file has a row of")
    add("--jobs", type=int, default=1, help="processes at a time, of one thread each")
    add("--limit", type=float, default=900.0, help="seconds for one architecture")
    options = parser.parse_args(arguments)
    if options.jobs < 1 or options.limit <= 0:
        parser.error("--jobs and --limit must be above zero")
    if options.out is not None and not options.out.absolute().parent.is_dir():
        parser.error(f"--out: there is no folder `{options.out.parent}`")
    try:
        before = None if options.against is None else read(options.against)
        earlier = read(options.out) if options.out and options.out.exists() else Report()
    except (OSError, InvalidValueError) as error:
        parser.error(f"no result of an earlier run: {error}")

    everything = _jobs(options.library)
    earlier = earlier.without_others([(job.library, job.name) for job in everything])
    globs = options.only or ["*"]
    wanted = [job for job in everything if any(fnmatch.fnmatchcase(job.name, g) for g in globs)]
    if not wanted:
        parser.error(f"no architecture is called {' or '.join(map(repr, globs))}")
    if options.resume:
        done = {row.key for row in earlier.rows()}
        wanted = [job for job in wanted if (job.library, job.name) not in done]

    rows = _check(wanted, earlier, options.out, workers=options.jobs, limit=options.limit)
    worse = [] if before is None else regressions(before.rows(), rows)
    for sentence in worse:
        print(f"worse: {sentence}")
    return 1 if worse else 0


def read(path: Path) -> Report:
    """A file that ``--out`` wrote.

    Raises:
        OSError: it cannot be read.
        InvalidValueError: it is something else.
    """
    return Report.from_json(path.read_bytes())


def _jobs(libraries: Sequence[str] | None) -> list[Job]:
    """All that can be checked.

    Raises:
        MissingPackageError: a library that was asked for is not installed.
    """
    found: list[Job] = []
    for place in dict.fromkeys(LIBRARIES[name] for name in libraries or LIBRARIES):
        try:
            for one in importlib.import_module(place).architectures():
                if not libraries or one.library in libraries:
                    found.append(Job(place=place, library=one.library, name=one.name))
        except MissingPackageError as error:
            if libraries:
                raise
            print(f"Left out: {error}")
    return found


def _check(
    wanted: Sequence[Job], earlier: Report, out: Path | None, *, workers: int, limit: float
) -> list[Row]:
    rows: list[Row] = []
    provenance = read_provenance()
    for row in check_all(wanted, workers=workers, limit=limit):
        rows.append(row)
        told = f" ({row.stage}: {row.finding})" if row.finding else ""
        print(f"{len(rows)}/{len(wanted)} {row.library} {row.name}: {row.outcome}{told}")
        if out is not None and (len(rows) % EVERY == 0 or len(rows) == len(wanted)):
            seconds = round(sum(row.seconds for row in rows), 1)
            now = provenance.model_copy(update={"seconds": seconds})
            report = earlier.joined(Run(provenance=now, rows=tuple(rows)))
            out.write_text(report.to_json() + "\n", encoding="utf-8")
    return rows


if __name__ == "__main__":
    sys.exit(main())
