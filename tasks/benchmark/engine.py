"""Runs a benchmark: check everything, run every cell, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from embshare.errors import InvalidValueError
from embshare.tasks.benchmark.config import BenchmarkConfig, Cell
from embshare.tasks.benchmark.folder import check_folder, open_folder, write_report
from embshare.tasks.benchmark.observer import Observer, Silent
from embshare.tasks.benchmark.report import BenchmarkReport, TaskRecord
from embshare.tasks.benchmark.workers import Workers, check_runs, default_jobs, run_one
from embshare.tasks.measurement.provenance import Provenance, read_provenance
from embshare.tasks.packages import check_packages
from embshare.tasks.running.config import RunConfig
from embshare.tasks.running.folder import RESULT
from embshare.tasks.running.result import RunResult
from embshare.tasks.task import PreparedTask, described

__all__ = ["run_benchmark"]

NEEDED: Final = ("transformers", "accelerate", "tokenizers", "yaml", "matplotlib", "jinja2")
Prepared: TypeAlias = Mapping[str, PreparedTask]


def run_benchmark(
    config: BenchmarkConfig,
    *,
    overwrite: bool = False,
    resume: bool = False,
    observer: Observer | None = None,
) -> BenchmarkReport:
    """Train every cell of the grid, and write results, pictures and a page.

    Everything that can be wrong with the config, the packages, the folder, the data, the plans and
    the training of each model is found before the first is trained. Written to ``config.out``:
    ``cells`` with a run's folder for each model, ``results.json`` (the report),
    ``pareto-TASK.png`` and ``report.html``.

    Args:
        config: What to compare.
        overwrite: Replace the results of an earlier benchmark in that folder.
        resume: Keep those runs in that folder that come from the same settings, data and code.
        observer: Is told how far the work is; nobody by default.
    Returns:
        The report. Its seconds are those of this call and, of earlier ones whose models are kept,
        the time in which these were trained.
    Raises:
        MissingPackageError: a package of the extra ``bench``, or of the optimizer, is not
            installed.
        RunExistsError: the folder holds something and may not be written to.
        EmbshareError: data that cannot be read, sizes that no model can have, plans that the
            table is too small for, settings that a model cannot be trained with.
        LostWorkerError: a process that trained a model was ended from outside.
    """
    observer = observer or Silent()
    begun = time.perf_counter()
    check_packages(NEEDED, extra="bench")
    provenance = read_provenance()
    check_folder(config.out, overwrite=overwrite, resume=resume)
    tasks: Prepared = {
        name: config.run_config(_first(config, name)).to_task().prepare() for name in config.tasks
    }
    kept = _kept(config, tasks, provenance) if resume else {}
    missing = [cell for cell in config.cells() if cell not in kept]
    with Workers(min(config.jobs or default_jobs(), max(1, len(missing)))) as workers:
        _check_cells(config, missing, tasks, workers)
        open_folder(config.out, overwrite=overwrite)
        done = _run_cells(config, kept, workers, observer)
    seconds = _busy_seconds(list(kept.values())) + time.perf_counter() - begun
    report = BenchmarkReport(
        config=config,
        provenance=provenance.model_copy(update={"seconds": seconds}),
        tasks=tuple(
            TaskRecord(name=name, metric=task.metric, data=described(task))
            for name, task in tasks.items()
        ),
        results=tuple(done[cell] for cell in config.cells()),
    )
    write_report(report)
    return report


def _first(config: BenchmarkConfig, task: str) -> Cell:
    return next(cell for cell in config.cells() if cell.task == task)


def _check_cells(
    config: BenchmarkConfig, cells: Sequence[Cell], tasks: Prepared, workers: Workers
) -> None:
    """Build and share each kind of model once, and check its training, without a step of it."""
    runs: dict[str, dict[tuple[object, ...], RunConfig]] = {}
    for cell in cells:
        kind = cell.architecture, cell.method
        runs.setdefault(cell.task, {}).setdefault(kind, config.run_config(cell))
    checks = {
        name: (list(found.values()), tasks[name] if workers.jobs == 1 else None)
        for name, found in runs.items()
    }
    for _ in workers.each(check_runs, checks):
        pass


def _run_cells(
    config: BenchmarkConfig, kept: Mapping[Cell, RunResult], workers: Workers, observer: Observer
) -> dict[Cell, RunResult]:
    """All results; those that are kept are not trained again."""
    cells = config.cells()
    observer.planned([(cell, config.training(cell.task).steps) for cell in cells])
    for cell, result in kept.items():
        observer.ended(cell, result, resumed=True)
    done = dict(kept)
    missing = {cell.name: cell for cell in cells if cell not in kept}
    runs = {name: (config.run_config(cell),) for name, cell in missing.items()}
    for name, result in workers.each(run_one, runs):
        done[missing[name]] = result
        observer.ended(missing[name], result, resumed=False)
    return done


def _kept(config: BenchmarkConfig, tasks: Prepared, now: Provenance) -> dict[Cell, RunResult]:
    """The results that the same settings, data, code and packages would give again."""
    found = {cell: _found(config.run_config(cell).out / RESULT) for cell in config.cells()}
    return {
        cell: result
        for cell, result in found.items()
        if result is not None
        and result.config == config.run_config(cell)
        and result.data == described(tasks[cell.task])
        and _code(result.provenance) == _code(now)
    }


def _found(path: Path) -> RunResult | None:
    if not path.is_file():
        return None
    try:
        return RunResult.from_json(path.read_text(encoding="utf-8"))
    except InvalidValueError:  # of another version, or not a result: train again
        return None


def _code(provenance: Provenance) -> tuple[object, ...]:
    return provenance.commit, provenance.dirty, provenance.packages


def _busy_seconds(results: Sequence[RunResult]) -> float:
    """How long at least one of some runs went on, however many did so at once."""
    seconds, until = 0.0, 0.0
    spans = sorted(
        (datetime.fromisoformat(found.started).timestamp(), found.seconds)
        for found in (result.provenance for result in results)
    )
    for start, length in spans:
        end = start + length
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds
