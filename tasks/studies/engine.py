"""Runs a study: check everything, do every trial, report."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol, final

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.measurement.provenance import read_provenance
from embshare.tasks.measurement.sizes import Sizes
from embshare.tasks.packages import check_packages
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.folder import NoFolderError
from embshare.tasks.studies.folder import check_folder, has_study, held, open_folder
from embshare.tasks.studies.record import TaskRecord, TrialRecord
from embshare.tasks.studies.report import StudyReport, check_metric
from embshare.tasks.studies.search import best_of
from embshare.tasks.studies.store import (
    busy_seconds,
    made_report,
    note_failure,
    read_records,
    read_tasks,
    write_report,
    write_tasks,
)
from embshare.tasks.studies.study_file import StudyFile, Trial
from embshare.tasks.studies.trial import Doing, check_trials_of, code_of, do_trial, forget_data
from embshare.tasks.studies.workers import Pool, Processes, ThisProcess, default_jobs, each

__all__ = [
    "Checks",
    "Found",
    "LackingError",
    "Observer",
    "Silent",
    "TrialsFailedError",
    "check_trials",
    "do_trials",
    "local_pool",
    "run_study",
    "run_trials",
]

NEEDED: Final = (
    "transformers",
    "accelerate",
    "tokenizers",
    "yaml",
    "matplotlib",
    "jinja2",
    "pandas",
)
RETRIES: Final = 2
"""How often a trial is begun anew whose process was lost."""


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


class LackingError(EmbshareError, RuntimeError):
    """A trial cannot begin, because what it starts from has failed."""

    def __init__(self, *, needs: Sequence[str]) -> None:
        super().__init__(f"needs {needs[0]}")
        self.needs = tuple(needs)


class Observer(Protocol):
    """Is informed of the progress of a study."""

    def planned(self, trials: Sequence[Trial]) -> None:
        """The trials are about to begin."""
        ...

    def begun(self, trial: Trial) -> None:
        """A trial has been given to a process."""
        ...

    def ended(self, trial: Trial, found: TrialRecord | Exception, *, resumed: bool) -> None:
        """A trial is done, or failed, or its record was found in the folder."""
        ...


class Silent:
    """Informs nobody."""

    def planned(self, trials: Sequence[Trial]) -> None: ...
    def begun(self, trial: Trial) -> None: ...
    def ended(self, trial: Trial, found: TrialRecord | Exception, *, resumed: bool) -> None: ...


@final
class _Writing:
    """Writes failures when they happen, checks the first trial that ends for what no config shows,
    and informs another observer."""

    def __init__(self, study: StudyFile, out: Path, observer: Observer) -> None:
        self.study, self.out, self.observer = study, out, observer

    def planned(self, trials: Sequence[Trial]) -> None:
        self.observer.planned(trials)

    def begun(self, trial: Trial) -> None:
        self.observer.begun(trial)

    def ended(self, trial: Trial, found: TrialRecord | Exception, *, resumed: bool) -> None:
        if isinstance(found, Exception):
            note_failure(trial.name, found, self.out)
        self.observer.ended(trial, found, resumed=resumed)
        if isinstance(found, TrialRecord):
            check_metric(self.study, found)


def run_study(
    study: StudyFile,
    out: Path,
    *,
    jobs: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
    checkpoints: bool = False,
    keep_checkpoints: bool = False,
    fail_fast: bool = False,
    retries: int = RETRIES,
    pool: Pool | None = None,
    observer: Observer | None = None,
) -> StudyReport:
    """Do every trial of a study, and write its report.

    Everything that can be wrong with the study, the packages, the folder, the data, the plans, the
    budgets and the training of each model is found before the first is trained. Written to ``out``:
    ``study.yaml``, ``trials`` with a record (``ID.json``) and a run's folder for each trial,
    ``failures.jsonl``, ``results.json`` (the report), ``index.parquet``, pictures and
    ``report.html``.

    Args:
        study: What to run.
        out: Folder of the study.
        jobs: Number of trials at once, each in its own process, fewer where memory is too small;
            ``None`` is one per accelerator, or per core of a machine without any; 0 is none but
            this process.
        overwrite: Replace the study in that folder.
        resume: Keep the trials in that folder that come from the same settings, data and code.
        checkpoints: Write checkpoints while a trial is trained, so that one that was killed is
            resumed where it was; without them it begins anew.
        keep_checkpoints: Leave them when a trial has ended.
        fail_fast: Stop at the first trial that fails, with its error.
        retries: How often a trial is begun anew whose process was lost.
        pool: Where trials are done, in place of ``jobs`` processes of this machine.
        observer: Is informed of the progress; nobody by default.
    Returns:
        The report. Its seconds are those of this call and, of earlier ones whose trials are kept,
        the time in which these were trained.
    Raises:
        MissingPackageError: a package of the extra ``bench``, or of the optimizer, is not
            installed.
        InvalidValueError: an option is unknown or out of range, ``jobs`` is below 0, or the first
            trial that ends has no metric of the name that is compared by; its record is kept.
        RunExistsError: the folder holds something and may not be written to.
        StudyBusyError: another process runs a study in it.
        OtherStudyError: the study in it is another one.
        EmbshareError: data that cannot be read, sizes that no model can have, plans that the
            table is too small for, budgets that cannot be met, settings that a model cannot be
            trained with.
        LostWorkerError: a process was ended from outside once more than ``retries``, with
            ``fail_fast``.
        NoFolderError: the disk is full; what has ended is kept.
        TrialsFailedError: trials failed, without ``fail_fast``; the report of the others is there.
    """
    begun, provenance = time.perf_counter(), read_provenance()
    check_packages(NEEDED, extra="bench")
    trials = study.trials(out)
    check_folder(study, out, overwrite=overwrite, resume=resume)
    forget_data()
    how = Doing(
        code=code_of(provenance), checkpoints=checkpoints, keep_checkpoints=keep_checkpoints
    )
    with pool or local_pool(jobs, len(trials)) as workers:
        checks = check_trials(trials, workers)
        open_folder(study, out, overwrite=overwrite)
        with held(out), _disk(out):
            write_tasks(checks.tasks, out)
            found = do_trials(
                checks.trials,
                workers,
                how=how,
                found=Found(tasks={task.name: task for task in checks.tasks}),
                retries=retries,
                fail_fast=fail_fast,
                observer=_Writing(study, out, observer or Silent()),
            )
            seconds = busy_seconds(found.kept) + time.perf_counter() - begun
            report = made_report(
                study,
                [*found.tasks.values()],
                [found.records[t.name] for t in trials if t.name in found.records],
                found.failed,
                provenance=provenance.model_copy(update={"seconds": seconds}),
            )
            write_tasks([*found.tasks.values()], out)
            write_report(report, out)
    if found.failed:
        raise TrialsFailedError(folder=out, failed=found.failed)
    return report


@contextmanager
def _disk(out: Path) -> Iterator[None]:
    """Name the folder where the system does not let a file be written: a disk that is full.

    Raises:
        NoFolderError: it does not; what has ended is kept.
    """
    try:
        yield
    except EmbshareError:
        raise
    except OSError as error:
        raise NoFolderError(folder=out, finding=error.strerror or str(error)) from error


def run_trials(
    study: StudyFile,
    out: Path,
    names: Sequence[str],
    *,
    checkpoints: bool = False,
    observer: Observer | None = None,
) -> list[TrialRecord]:
    """Do some trials of a study in this process, as a job of an array does, beside others that do.

    What they start from must have been done. No report is written: `read_report` makes it when all
    have ended.

    Args:
        study: The study.
        out: Its folder, which is made if there is none.
        names: Names of the trials.
        checkpoints: Write checkpoints, and resume a trial that was killed.
        observer: Is informed of the progress; nobody by default.
    Returns:
        The records, in the order of the study.
    Raises:
        InvalidValueError: the study has no such trial.
        OtherStudyError: the study in the folder is another one.
        TrialsFailedError: trials failed.
        EmbshareError: as of `run_study`.
    """
    check_packages(NEEDED, extra="bench")
    trials = study.trials(out)
    if unknown := [*set(names).difference(trial.name for trial in trials)]:
        fault = f"`trial`: must be one that --dry-run lists, but is {sorted(unknown)[0]!r}"
        raise InvalidValueError(what="study", faults=[fault])
    check_folder(study, out, overwrite=False, resume=has_study(out))
    with ThisProcess() as pool:
        checks = check_trials([trial for trial in trials if trial.name in names], pool)
        open_folder(study, out, overwrite=False)
        before = {record.name: record for record in read_records(study, out)}
        known = {task.name: task for task in (*read_tasks(out), *checks.tasks)}
        write_tasks([*known.values()], out)
        found = do_trials(
            checks.trials,
            pool,
            how=Doing(code=code_of(read_provenance()), checkpoints=checkpoints),
            found=Found(records=before, tasks=known),
            trials_of={trial.name: trial for trial in trials},
            observer=_Writing(study, out, observer or Silent()),
        )
        write_tasks([*{**{t.name: t for t in read_tasks(out)}, **found.tasks}.values()], out)
    if found.failed:
        raise TrialsFailedError(folder=out, failed=found.failed)
    return [found.records[trial.name] for trial in checks.trials]


def local_pool(jobs: int | None, trials: int) -> Pool:
    """Return processes of this machine; see `run_study` for ``jobs``.

    Raises:
        InvalidValueError: ``jobs`` is below 0.
    """
    if jobs is not None and jobs < 0:
        fault = f"`jobs`: must be at least 0, but is {jobs}"
        raise InvalidValueError(what="study", faults=[fault])
    if jobs == 0:
        return ThisProcess()
    return Processes(max(1, min(jobs or default_jobs(), trials)))


@dataclass(frozen=True)
class Checks:
    """What is known of a study before its first step of training."""

    trials: tuple[Trial, ...]
    """Its trials, with the sizes that were solved for their budgets."""
    tasks: tuple[TaskRecord, ...]
    """Its tasks, as far as no trial has to end before they are known."""
    sizes: dict[str, Sizes]
    """Name of a trial -> sizes of its model, where they were asked for."""


def check_trials(trials: Sequence[Trial], pool: Pool, *, measure: bool = False) -> Checks:
    """Read the data of each task and build each kind of model once, without a step of training.

    Trials whose model comes from another cannot be checked before this one is done.

    Args:
        trials: The trials.
        pool: Where they are checked.
        measure: Save each kind of model, to know its bytes.
    Raises:
        EmbshareError: see `embshare.tasks.studies.trial.check_trials_of`.
    """
    groups: dict[tuple[str, str], dict[str, list[Trial]]] = {}
    for trial in trials:
        if trial.work is not None or not _known_before(trial):
            continue
        config = trial.config
        kind = config.model_copy(update={"seed": 0, "out": Path()}).to_json() + repr(trial.budget)
        group = groups.setdefault((config.task, config.settings.to_json()), {})
        group.setdefault(kind, []).append(trial)
    alike = {f"{n}": list(group.values()) for n, group in enumerate(groups.values())}
    firsts = {name: ([same[0] for same in kinds], measure) for name, kinds in alike.items()}
    checked = dict(each(pool, check_trials_of, firsts, firsts.__getitem__))
    tasks: dict[str, TaskRecord] = {}
    sizes: dict[str, Sizes] = {}
    settled = {trial.name: trial for trial in trials}
    for name, kinds in alike.items():
        found = checked[name]
        assert not isinstance(found, Exception)  # the first error was raised
        tasks.setdefault(found.task.name, found.task)
        for same in kinds:
            for trial in same:
                if (size := found.sizes.get(same[0].name)) is not None:
                    sizes[trial.name] = size
                if (solution := found.solved.get(same[0].name)) is not None:
                    settled[trial.name] = _with_size(trial, *solution)
    return Checks(tuple(settled.values()), tuple(tasks.values()), sizes)


def _known_before(trial: Trial) -> bool:
    """Whether a trial's data and model depend on no other; rates and a teacher change neither."""
    plain = set(trial.needs).difference(trial.tuned, *trial.starts.values())
    return not plain and trial.starts.keys() <= {"teacher"}


def _with_size(trial: Trial, config: RunConfig, solved: Mapping[str, int]) -> Trial:
    """A trial with the size that was solved for another one of the same kind."""
    own = {"seed": trial.config.seed, "out": trial.config.out}
    return replace(trial, config=config.model_copy(update=own), solved=solved)


@dataclass
class Found:
    """What trials gave, by their names."""

    records: dict[str, TrialRecord] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    kept: list[TrialRecord] = field(default_factory=list)
    """Those that had been done before."""
    tasks: dict[str, TaskRecord] = field(default_factory=dict)

    def best(self, names: Sequence[str]) -> TrialRecord:
        """Return the best of some trials.

        Raises:
            LackingError: none of them has ended well.
        """
        ended = [self.records[name] for name in names if name in self.records]
        if not ended:
            raise LackingError(needs=names)
        return best_of(ended, self.tasks[ended[0].result.task].metric)


def do_trials(
    trials: Sequence[Trial],
    pool: Pool,
    *,
    how: Doing,
    observer: Observer,
    found: Found | None = None,
    trials_of: Mapping[str, Trial] | None = None,
    retries: int = RETRIES,
    fail_fast: bool = False,
) -> Found:
    """Do trials in their order, none before what it needs; those with a record are not repeated.

    Args:
        trials: The trials.
        pool: Where they are done.
        how: Code and checkpoints.
        observer: Is informed of the progress.
        found: What is known already: tasks, and records of trials that these start from.
        trials_of: Name -> trial, of those too; these trials alone by default.
        retries: How often a trial is begun anew whose process was lost.
        fail_fast: Raise the first error. Otherwise what does not need the trial that failed goes
            on.
    """
    found, named = found or Found(), {trial.name: trial for trial in trials}
    known = trials_of or named
    observer.planned(trials)

    def arguments(name: str) -> tuple[object, ...]:
        trial = named[name]
        of_groups = {
            n for group in (trial.tuned, trial.alike, *trial.starts.values()) for n in group
        }
        plain = [need for need in trial.needs if need not in of_groups]
        starts = [found.best(names) for names in (*trial.starts.values(), *([n] for n in plain))]
        trial = trial.settled(
            lambda names: known[found.best(names).name],
            lambda names: found.best(names).result.bytes,
        )
        observer.begun(trial)
        return trial, tuple(record.id for record in starts), how

    needs = {name: trial.needs for name, trial in named.items()}
    done = each(pool, do_trial, named, arguments, needs=needs, fail_fast=fail_fast, retries=retries)
    for name, result in done:
        if isinstance(result, Exception):
            found.failed[name] = (str(result).splitlines() or [type(result).__name__])[0]
            observer.ended(named[name], result, resumed=False)
            continue
        record = _slim(result.record, named[name].config, found.records.values())
        found.records[name] = record
        found.kept += [record] * result.kept
        if result.task is not None:
            found.tasks.setdefault(result.task.name, result.task)
        pool.learn(result.record.result.peak_mib)
        observer.ended(named[name], result.record, resumed=result.kept)
    return found


def _slim(record: TrialRecord, config: RunConfig, others: Collection[TrialRecord]) -> TrialRecord:
    """A record that shares what it has in common with others: thousands of them take memory.

    Records come from other processes with copies of their own of config, data and packages, 20 kB
    each; a fifth of that is the trial's alone.
    """
    result, first = record.result, next(iter(others), record).result
    shared: dict[str, Any] = {}
    if result.config == config:
        shared["config"] = config
    if result.data == first.data:
        shared["data"] = first.data
    if result.provenance.packages == first.provenance.packages:
        packages = {"packages": first.provenance.packages}
        shared["provenance"] = result.provenance.model_copy(update=packages)
    return record.model_copy(update={"result": result.model_copy(update=shared)})
