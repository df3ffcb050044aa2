"""Runs a study: check everything, do every trial, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, final

from pydantic import JsonValue

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.measurement.provenance import read_provenance
from embshare.tasks.packages import check_packages
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.studies.folder import check_folder, open_folder, write_report
from embshare.tasks.studies.report import StudyReport, check_metric
from embshare.tasks.studies.study import Study, Trial
from embshare.tasks.studies.trial import (
    TaskRecord,
    TrialRecord,
    check_runs,
    code_of,
    do_trial,
    forget_data,
)
from embshare.tasks.studies.workers import Workers, default_jobs

__all__ = ["Observer", "Silent", "TrialsFailedError", "check_trials", "do_trials", "run_study"]

NEEDED: Final = ("transformers", "accelerate", "tokenizers", "yaml", "matplotlib", "jinja2")


class TrialsFailedError(EmbshareError, RuntimeError):
    """Some trials of a study failed; the others are done and written."""

    def __init__(self, *, folder: Path, failed: Mapping[str, str]) -> None:
        name, fault = next(iter(failed.items()))
        more = f", and {len(failed) - 1} more" * (len(failed) > 1)
        super().__init__(
            f"all trials in `{folder}` must end, but {name} did not ({fault}){more}; what ended is "
            "in its report. Mend what error.txt in a trial's folder says, and resume the study."
        )
        self.folder, self.failed = folder, dict(failed)


class Observer(Protocol):
    """Is informed of the progress of a study."""

    def planned(self, trials: Sequence[Trial]) -> None:
        """The trials are about to begin."""
        ...

    def ended(self, trial: Trial, found: TrialRecord | Exception, *, resumed: bool) -> None:
        """A trial is done, or failed, or its record was found in the folder."""
        ...


@final
class Silent:
    """Informs nobody."""

    def planned(self, trials: Sequence[Trial]) -> None: ...
    def ended(self, trial: Trial, found: TrialRecord | Exception, *, resumed: bool) -> None: ...


@final
class _Checking:
    """Checks the first trial that ends for what no config shows, and informs another observer."""

    def __init__(self, study: Study, observer: Observer) -> None:
        self.study, self.observer = study, observer

    def planned(self, trials: Sequence[Trial]) -> None:
        self.observer.planned(trials)

    def ended(self, trial: Trial, found: TrialRecord | Exception, *, resumed: bool) -> None:
        self.observer.ended(trial, found, resumed=resumed)
        if isinstance(found, TrialRecord):
            check_metric(self.study, found)


def run_study(
    study: Study,
    out: Path,
    *,
    jobs: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    checkpoints: bool = False,
    fail_fast: bool = False,
    observer: Observer | None = None,
) -> StudyReport:
    """Do every trial of a study, and write its report.

    Everything that can be wrong with the study, the packages, the folder, the data, the plans and
    the training of each model is found before the first is trained. Written to ``out``:
    ``study.yaml``, ``trials`` with a record (``ID.json``) and a run's folder for each trial,
    ``results.json`` (the report), ``pareto-TASK.png`` and ``report.html``.

    Args:
        study: What to run.
        out: Folder of the study.
        jobs: Number of models trained at once, each in its own process; ``None`` is one per core
            of a machine without an accelerator, else one.
        overwrite: Replace the study in that folder.
        resume: Keep the trials in that folder that come from the same settings, data and code.
        checkpoints: Write checkpoints while a trial is trained, so that one that was killed is
            resumed where it was; without them it begins anew.
        fail_fast: Stop at the first trial that fails, with its error.
        observer: Is informed of the progress; nobody by default.
    Returns:
        The report. Its seconds are those of this call and, of earlier ones whose trials are kept,
        the time in which these were trained.
    Raises:
        MissingPackageError: a package of the extra ``bench``, or of the optimizer, is not
            installed.
        InvalidValueError: an option is unknown or out of range, ``jobs`` is below 1, or the first
            trial that ends has no metric of the name that is compared by; its record is kept.
        RunExistsError: the folder holds something and may not be written to.
        OtherStudyError: the study in it is another one.
        EmbshareError: data that cannot be read, sizes that no model can have, plans that the
            table is too small for, settings that a model cannot be trained with.
        LostWorkerError: a process that trained a model was ended from outside.
        TrialsFailedError: trials failed, without ``fail_fast``; the report of the others is there.
    """
    begun, provenance = time.perf_counter(), read_provenance()
    check_packages(NEEDED, extra="bench")
    if jobs is not None and jobs < 1:
        fault = f"`jobs`: must be at least 1, but is {jobs}"
        raise InvalidValueError(what="study", faults=[fault])
    trials = study.trials(out)
    check_folder(study, out, overwrite=overwrite, resume=resume)
    forget_data()
    with Workers(min(jobs or default_jobs(), len(trials))) as workers:
        tasks = check_trials(trials, workers)
        open_folder(study, out, overwrite=overwrite)
        found = do_trials(
            trials,
            workers,
            code=code_of(provenance),
            checkpoints=checkpoints,
            fail_fast=fail_fast,
            observer=_Checking(study, observer or Silent()),
        )
    seconds = _busy_seconds(found.kept) + time.perf_counter() - begun
    ended = {record.result.task for record in found.records.values()}
    report = StudyReport(
        study=study,
        provenance=provenance.model_copy(update={"seconds": seconds}),
        tasks=tuple(task for task in tasks if task.name in ended),
        trials=tuple(found.records[t.name] for t in trials if t.name in found.records),
        failed=found.failed,
    )
    write_report(report, out)
    if found.failed:
        raise TrialsFailedError(folder=out, failed=found.failed)
    return report


def check_trials(trials: Sequence[Trial], workers: Workers) -> tuple[TaskRecord, ...]:
    """Read the data of each task and build each kind of model once, without a step of training.

    Trials that start from others cannot be checked before these are done.

    Returns:
        One record for each task, of the first of its trials.
    Raises:
        EmbshareError: see `embshare.tasks.studies.trial.check_runs`.
    """
    groups: dict[tuple[str, str], dict[str, RunConfig]] = {}
    for config in (trial.config for trial in trials if not trial.needs and trial.work is None):
        kind = config.model_copy(update={"seed": 0, "out": Path()})
        group = groups.setdefault((config.task, config.settings.to_json()), {})
        group.setdefault(kind.to_json(), config)
    checks = {f"{n}": (list(group.values()),) for n, group in enumerate(groups.values())}
    found = dict(workers.each(check_runs, checks, checks.__getitem__))
    first: dict[str, TaskRecord] = {}
    for name in checks:
        record = found[name]
        assert isinstance(record, TaskRecord)  # the first error was raised
        first.setdefault(record.name, record)
    return tuple(first.values())


@dataclass
class Found:
    """What trials gave, by their names."""

    records: dict[str, TrialRecord] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    kept: list[TrialRecord] = field(default_factory=list)
    """Those that had been done before."""


def do_trials(
    trials: Sequence[Trial],
    workers: Workers,
    *,
    code: tuple[JsonValue, ...],
    checkpoints: bool,
    fail_fast: bool,
    observer: Observer,
) -> Found:
    """Do trials in their order, none before what it needs; those with a record are not repeated.

    Args:
        trials: The trials, with what they need among them.
        workers: Processes that do them.
        code: Commit and packages, see `embshare.tasks.studies.trial.code_of`.
        checkpoints: Write checkpoints while a trial is trained.
        fail_fast: Raise the first error. Otherwise what does not need the trial that failed goes
            on.
        observer: Is informed of the progress.
    """
    found, named = Found(), {trial.name: trial for trial in trials}
    observer.planned(trials)

    def arguments(name: str) -> tuple[object, ...]:
        needs = tuple(found.records[need].id for need in named[name].needs)
        return named[name], code, needs, checkpoints

    needs = {name: trial.needs for name, trial in named.items()}
    for name, done in workers.each(do_trial, named, arguments, needs=needs, fail_fast=fail_fast):
        if isinstance(done, Exception):
            found.failed[name] = (str(done).splitlines() or [type(done).__name__])[0]
        else:
            found.records[name] = done.record
            found.kept += [done.record] * done.kept
        result = done if isinstance(done, Exception) else done.record
        kept = not isinstance(done, Exception) and done.kept
        observer.ended(named[name], result, resumed=kept)
    for trial in trials:
        if trial.name not in found.records and trial.name not in found.failed:
            missing = next(need for need in trial.needs if need not in found.records)
            found.failed[trial.name] = f"needs {missing}"
    return found


def _busy_seconds(records: Sequence[TrialRecord]) -> float:
    """How long at least one of some trials went on, however many did so at once."""
    seconds, until = 0.0, 0.0
    spans = sorted(
        (datetime.fromisoformat(found.started).timestamp(), found.seconds)
        for found in (record.result.provenance for record in records)
    )
    for start, length in spans:
        end = start + length
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds
