"""Runs a benchmark: check everything, run every cell, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, TypeAlias

import embshare
from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.benchmark.config import BenchmarkConfig, Cell
from embshare.tasks.benchmark.folder import check_folder, open_folder, write_report
from embshare.tasks.benchmark.observer import Observer, Silent
from embshare.tasks.benchmark.report import BenchmarkReport, TaskRecord
from embshare.tasks.benchmark.workers import default_jobs, run_all
from embshare.tasks.measurement.provenance import Provenance, read_provenance
from embshare.tasks.packages import check_packages
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

    Everything that can be wrong with the config, the packages, the folder, the data and the
    plans is found before the first model is trained. Written to ``config.out``: ``cells`` with a
    run's folder for each model, ``results.json`` (the report), ``pareto-TASK.png`` and
    ``report.html``.

    Args:
        config: What to compare.
        overwrite: Replace the results of an earlier benchmark in that folder.
        resume: Keep those runs in that folder that come from the same settings, data and code.
        observer: Is told how far the work is; nobody by default.
    Raises:
        MissingPackageError: a package of the extra ``bench`` is not installed.
        RunExistsError: the folder holds something and may not be written to.
        EmbshareError: data that cannot be read, sizes that no model can have, plans that the
            table is too small for.
    """
    observer = observer or Silent()
    begun = time.perf_counter()
    check_packages(NEEDED, extra="bench")
    provenance = read_provenance()
    check_folder(config.out, overwrite=overwrite, resume=resume)
    tasks: Prepared = {
        name: config.run_config(_first(config, name)).to_task().prepare() for name in config.tasks
    }
    _check_plans(config, tasks)
    open_folder(config.out, overwrite=overwrite)
    results = _run_cells(config, tasks, provenance, observer, resume=resume)
    report = BenchmarkReport(
        config=config,
        provenance=provenance.model_copy(update={"seconds": time.perf_counter() - begun}),
        tasks=tuple(
            TaskRecord(name=name, metric=task.metric, data=described(task))
            for name, task in tasks.items()
        ),
        results=tuple(results),
    )
    write_report(report)
    return report


def _first(config: BenchmarkConfig, task: str) -> Cell:
    return next(cell for cell in config.cells() if cell.task == task)


def _check_plans(config: BenchmarkConfig, tasks: Prepared) -> None:
    """Plan every way of sharing once, so that a table that is too small is found at once."""
    for cell in config.cells():
        share = config.share_config(cell.method)
        if cell.seed != config.seeds[0] or share is None:
            continue
        try:
            model = tasks[cell.task].processor.build(cell.architecture, cell.seed)
            embshare.plan_sharing(model, share)
        except EmbshareError as error:
            error.add_note(
                f"while planning {cell.method} for the {cell.architecture} model of {cell.task}"
            )
            raise


def _run_cells(
    config: BenchmarkConfig,
    tasks: Prepared,
    provenance: Provenance,
    observer: Observer,
    *,
    resume: bool,
) -> list[RunResult]:
    """All results, in the order of the grid; those that may be kept are not trained again."""
    cells = config.cells()
    observer.planned([(cell, config.training(cell.task).steps) for cell in cells])
    done: dict[Cell, RunResult] = {}
    for cell in cells if resume else ():
        if (kept := _kept(config, cell, tasks[cell.task], provenance)) is not None:
            done[cell] = kept
            observer.ended(cell, kept, resumed=True)
    missing = [cell for cell in cells if cell not in done]
    jobs = min(config.jobs or default_jobs(), max(1, len(missing)))
    for index, result in run_all([config.run_config(cell) for cell in missing], jobs=jobs):
        done[missing[index]] = result
        observer.ended(missing[index], result, resumed=False)
    return [done[cell] for cell in cells]


def _kept(
    config: BenchmarkConfig, cell: Cell, task: PreparedTask, now: Provenance
) -> RunResult | None:
    """The result of a run that the same settings, data, code and packages would give again."""
    run = config.run_config(cell)
    path = run.out / RESULT
    if not path.is_file():
        return None
    try:
        found = RunResult.from_json(path.read_text(encoding="utf-8"))
    except InvalidValueError:  # of another version, or not a result: train again
        return None
    then = found.provenance
    same = (
        found.config == run
        and found.data == described(task)
        and (then.commit, then.dirty, then.packages) == (now.commit, now.dirty, now.packages)
    )
    return found if same else None
