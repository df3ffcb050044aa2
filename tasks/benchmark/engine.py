"""Runs a benchmark: check everything, train every cell, write after each."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import nn

import embshare
from embshare.errors import EmbshareError
from embshare.tasks.benchmark.config import BenchmarkConfig, Cell, TaskName
from embshare.tasks.benchmark.folder import OutputFolder
from embshare.tasks.benchmark.observer import Observer, Silent
from embshare.tasks.benchmark.report import BenchmarkReport, CellRecord, TaskRecord
from embshare.tasks.language_modelling.task import LanguageModelling
from embshare.tasks.measurement.memory import PeakMemory
from embshare.tasks.measurement.provenance import Provenance, read_provenance
from embshare.tasks.measurement.sizes import Sizes, sizes_of
from embshare.tasks.packages import check_packages
from embshare.tasks.saving import save_trained
from embshare.tasks.task import PreparedTask, Task, Training

__all__ = ["run_benchmark", "task_of"]

NEEDED: Final = ("transformers", "accelerate", "tokenizers", "matplotlib")
WARM_UP: Final = 3  # steps
Prepared: TypeAlias = Mapping[TaskName, PreparedTask]


def task_of(name: TaskName, config: BenchmarkConfig) -> Task[Any]:
    """The task of a name, with its part of the config. A new task is one more ``case``."""
    match name:
        case "language_modelling":
            return LanguageModelling(config.language_modelling)


def run_benchmark(config: BenchmarkConfig, observer: Observer | None = None) -> BenchmarkReport:
    """Train every cell of the grid, measure it, and write records, table data and pictures.

    Everything that can be wrong with the config, the packages, the folder, the data and the
    plans is found before the first model is trained. Written to ``config.out``:
    ``results.json`` (the report), ``cells/*.json`` (each record, as soon as it is there) and
    ``pareto-TASK.png``.

    Args:
        config: What to compare.
        observer: Is told how far the work is; nobody by default.
    Raises:
        MissingPackageError: a package of the extra ``bench`` is not installed.
        OutputExistsError: the folder holds something and may not be written to.
        EmbshareError: data that cannot be read, sizes that no model can have, plans that the
            table is too small for.
    """
    from embshare.tasks.benchmark.picture import draw_pareto

    observer = observer or Silent()
    begun = time.perf_counter()
    check_packages(NEEDED, extra="bench")
    provenance = read_provenance()
    for method in config.methods:
        config.share_config(method)
    folder = OutputFolder(config)
    tasks: Prepared = {name: task_of(name, config).prepare() for name in config.tasks}
    _check_plans(config, tasks)
    folder.open()  # made last, so that a benchmark which is refused leaves nothing behind
    records = _run_cells(config, tasks, provenance, folder, observer)
    report = BenchmarkReport(
        config=config,
        provenance=provenance.model_copy(update={"seconds": time.perf_counter() - begun}),
        tasks=tuple(_describe(name, task) for name, task in tasks.items()),
        records=tuple(records),
    )
    folder.write_report(report)
    for name in config.tasks:
        draw_pareto(report, name, folder.picture(name))
    return report


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
            error.add_note(f"while planning {cell.method} for the {cell.architecture} model")
            raise


def _describe(name: TaskName, task: PreparedTask) -> TaskRecord:
    # Through JSON's own types: what a task says of its data has to be storable.
    return TaskRecord.model_validate(
        {"name": name, "metric": task.metric, "data": dict(task.describe())}
    )


def _run_cells(
    config: BenchmarkConfig,
    tasks: Prepared,
    provenance: Provenance,
    folder: OutputFolder,
    observer: Observer,
) -> list[CellRecord]:
    """All records, in the order of the grid; those that may be kept are not trained again."""
    records, warm = [], False
    cells = config.cells()
    observer.planned([(cell, tasks[cell.task].training.steps) for cell in cells])
    for cell in cells:
        task = tasks[cell.task]
        fingerprint = _fingerprint(config, cell, task, provenance)
        record = folder.finished(cell, fingerprint)
        resumed = record is not None
        if record is None:
            observer.began(cell)
            if not warm:
                _warm_up(cell, task)
                warm = True
            record = _run_cell(config, cell, task, fingerprint, observer)
            folder.write_cell(cell, record)
        observer.ended(cell, record, resumed=resumed)
        records.append(record)
    return records


def _warm_up(cell: Cell, task: PreparedTask) -> None:
    """Train something for a moment: the libraries that this loads are not the first cell's."""
    from embshare.tasks.training import train

    settings = task.training.model_copy(update={"steps": WARM_UP, "epochs": None})
    with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng():
        model = task.processor.build(cell.architecture, cell.seed)
        folder = Path(scratch)
        train(model, task.feed(), settings, seed=0, folder=folder, on_step=lambda: None)


def _fingerprint(
    config: BenchmarkConfig, cell: Cell, task: PreparedTask, provenance: Provenance
) -> str:
    """Of everything that decides a record but the machine: settings, data, code and packages."""
    share = config.share_config(cell.method)
    parts = (
        cell.name,
        share.to_json() if share else "dense",
        getattr(config, cell.task).to_json(),
        str(sorted(task.describe().items())),
        str((provenance.commit, provenance.dirty)),
        str(sorted(provenance.packages.items())),
    )
    return sha256("\0".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What one cell gave, before it is a record."""

    sizes: Sizes
    training: Training
    memory: PeakMemory
    metrics: Mapping[str, float]


def _run_cell(
    config: BenchmarkConfig,
    cell: Cell,
    task: PreparedTask,
    fingerprint: str,
    observer: Observer,
) -> CellRecord:
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, torch.random.fork_rng():
        measured = _measure(config, cell, task, Path(scratch), observer)
    sizes, memory, step_ms = measured.sizes, measured.memory, measured.training.step_ms
    warmup = min(10, len(step_ms) // 5)
    return CellRecord(
        task=cell.task,
        architecture=cell.architecture,
        method=cell.method,
        seed=cell.seed,
        share=config.share_config(cell.method),
        stored=sizes.stored,
        read=sizes.read,
        bytes_on_disk=sizes.bytes_on_disk,
        metrics=dict(measured.metrics),
        training_loss=measured.training.loss,
        ms_per_step=statistics.median(step_ms[warmup:]),
        warmup_steps=warmup,
        peak_mib=memory.peak_mib,
        resident_mib=memory.before_mib,
        peak_source=memory.source,
        seconds=time.perf_counter() - begun,
        fingerprint=fingerprint,
    )


def _measure(
    config: BenchmarkConfig, cell: Cell, task: PreparedTask, scratch: Path, observer: Observer
) -> _Measured:
    """Build, share, train, evaluate and save one model."""
    from embshare.tasks.training import train

    with PeakMemory() as memory:
        model = _build(config, cell, task)
        training = train(
            model,
            task.feed(),
            task.training,
            seed=cell.seed,
            folder=scratch,
            on_step=observer.stepped,
        )
    metrics = task.evaluate(model, folder=scratch)
    save_trained(model, scratch / "model")
    sizes = sizes_of(model, scratch / "model")
    return _Measured(sizes=sizes, training=training, memory=memory, metrics=metrics)


def _build(config: BenchmarkConfig, cell: Cell, task: PreparedTask) -> nn.Module:
    """The cell's model; a projection that sharing adds starts from the cell's seed too."""
    model = task.processor.build(cell.architecture, cell.seed)
    if (share := config.share_config(cell.method)) is None:
        return model
    start = torch.Generator().manual_seed(cell.seed)
    return embshare.share_from_embedding(model, share, generator=start)
