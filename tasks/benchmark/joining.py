"""Benchmarks that were run apart, on several machines or one seed after another, as one."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.benchmark.config import CELLS, BenchmarkConfig
from embshare.tasks.benchmark.folder import check_folder, open_folder, read_report, write_report
from embshare.tasks.benchmark.report import BenchmarkReport, cell_of
from embshare.tasks.running.folder import RESULT

__all__ = ["NoGridError", "OtherBenchmarkError", "join_benchmarks"]

AXES: Final = ("architectures", "methods", "seeds")
"""What benchmarks that are joined may differ in: each is a part of one grid."""
SHOWN: Final = ("samples", RESULT)
"""What is copied of a cell: all that a report shows. Weights stay where they are."""
NAMED: Final = 3


class OtherBenchmarkError(EmbshareError, ValueError):
    """Benchmarks are to be joined that do not compare."""

    def __init__(self, *, first: Path, other: Path, fields: Sequence[str]) -> None:
        names = ", ".join(f"`{name}`" for name in fields)
        super().__init__(
            f"benchmarks that are joined must have the same settings, data and code, but "
            f"`{other}` differs from `{first}` in {names}. Run one of them again as the other was."
        )
        self.first, self.other, self.fields = first, other, tuple(fields)


class NoGridError(EmbshareError, ValueError):
    """Benchmarks are to be joined that overlap, or leave models out."""

    def __init__(self, *, twice: Sequence[str], missing: Sequence[str]) -> None:
        faults = [
            f"{fault} {', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' * more}"
            for fault, names in (("have twice", twice), ("lack", missing))
            for more in [len(names) > NAMED]
            if names
        ]
        super().__init__(
            "benchmarks that are joined must have each model of the grid once, but "
            f"{', and '.join(faults)}. Leave out a folder, or run what is missing."
        )
        self.twice, self.missing = tuple(twice), tuple(missing)


def join_benchmarks(
    folders: Sequence[Path], out: Path, *, overwrite: bool = False
) -> BenchmarkReport:
    """Write the report of several benchmarks that are parts of one grid.

    They may differ in architectures, methods and seeds, and in where and how many at a time they
    were run. ``out`` has what a benchmark writes, but for the models' weights.

    Args:
        folders: Of benchmarks, at least one; the grid has its axes in their order.
        out: A new or an empty folder.
        overwrite: Replace the results of an earlier benchmark in that folder.
    Returns:
        The report; its seconds are those of all parts.
    Raises:
        InvalidValueError: ``out`` is one of the folders.
        NoBenchmarkError: a folder holds none.
        RunExistsError: ``out`` holds something and may not be written to.
        OtherBenchmarkError: settings, data, commits or packages differ.
        NoGridError: a model is there twice, or missing.
    """
    if out.resolve() in (folder.resolve() for folder in folders):  # replacing it would lose it
        fault = f"`out`: must be another folder than those that are joined, but is {str(out)!r}"
        raise InvalidValueError(what="report", faults=[fault])
    parts = [read_report(folder) for folder in folders]
    check_folder(out, overwrite=overwrite, resume=False)
    for part in parts[1:]:
        if fields := _differences(parts[0], part):
            first, other = (each.config.out for each in (parts[0], part))
            raise OtherBenchmarkError(first=first, other=other, fields=fields)
    joined = _joined(parts, out)
    open_folder(out, overwrite=overwrite)
    for part in parts:
        _copy(part, out)
    write_report(joined)
    return joined


def _differences(one: BenchmarkReport, other: BenchmarkReport) -> list[str]:
    """The names of what has to be the same and is not."""
    left, right = (dict(_common(report)) for report in (one, other))
    return [name for name in (left | right) if left.get(name) != right.get(name)]


def _common(report: BenchmarkReport) -> Iterator[tuple[str, Any]]:
    apart = {*AXES, "jobs", "out"}
    settings = report.config.model_dump(mode="json")
    yield from ((name, value) for name, value in settings.items() if name not in apart)
    yield from ((f"data of {task.name}", task.data) for task in report.tasks)
    code = {(r.provenance.commit, r.provenance.dirty) for r in report.results}
    yield "commit", code
    yield "packages", {tuple(sorted(r.provenance.packages.items())) for r in report.results}


def _joined(parts: Sequence[BenchmarkReport], out: Path) -> BenchmarkReport:
    axes: dict[str, Any] = {
        axis: tuple(dict.fromkeys(chain.from_iterable(getattr(p.config, axis) for p in parts)))
        for axis in AXES
    }
    config: BenchmarkConfig = parts[0].config.model_copy(update={**axes, "out": out})
    results = {cell_of(result): result for part in parts for result in part.results}
    times = Counter(cell_of(result) for part in parts for result in part.results)
    twice = [cell.name for cell, count in times.items() if count > 1]
    missing = [cell.name for cell in config.cells() if cell not in results]
    if twice or missing:
        raise NoGridError(twice=twice, missing=missing)
    first = parts[0].provenance
    seconds = sum(part.provenance.seconds for part in parts)
    return BenchmarkReport(
        config=config,
        provenance=first.model_copy(update={"seconds": seconds}),
        tasks=parts[0].tasks,
        results=tuple(results[cell] for cell in config.cells()),
    )


def _copy(part: BenchmarkReport, out: Path) -> None:
    for result in part.results:
        name = cell_of(result).name
        for path in (part.config.out / CELLS / name / shown for shown in SHOWN):
            target = out / CELLS / name / path.name
            target.parent.mkdir(exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target)
            elif path.is_file():
                shutil.copyfile(path, target)
