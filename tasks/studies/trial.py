"""One trial, in whichever process does it: its data, its identity, its training, its record."""

from __future__ import annotations

import json
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout
from pydantic import JsonValue

import embshare
from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.measurement.provenance import Provenance
from embshare.tasks.measurement.sizes import Sizes
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.folder import RunFolder, write_text
from embshare.tasks.runs.result import RunResult
from embshare.tasks.runs.starting import prepare_started
from embshare.tasks.runs.teaching import prepare_taught
from embshare.tasks.runs.vocabulary import with_own_tokenizer
from embshare.tasks.studies.budget import Models, solved
from embshare.tasks.studies.record import FORMAT, OtherVersionError, TaskRecord, TrialRecord
from embshare.tasks.studies.study_file import FAULT, LOCK, MARK, Trial
from embshare.tasks.task import PreparedTask, described

__all__ = [
    "Checked",
    "DivergedError",
    "Doing",
    "Done",
    "TrialBusyError",
    "check_trials_of",
    "code_of",
    "do_trial",
    "forget_data",
    "identity",
    "prepared_task",
]


class TrialBusyError(EmbshareError, RuntimeError):
    """Two processes would do one trial."""

    def __init__(self, *, folder: Path) -> None:
        super().__init__(
            f"`{folder}` must be used by one process at a time, but another one does this trial. "
            "Wait for it: its record will be found."
        )
        self.folder = folder


class DivergedError(EmbshareError, RuntimeError):
    """The training of a trial diverged, and was ended."""

    def __init__(self, *, loss: float, step: int) -> None:
        super().__init__(
            f"the loss must be finite, but was {loss} at step {step:,}: training diverged. Lower "
            "`learning_rate`, or `hidden_lr`, which scales that of hidden matrices; a search for "
            "rates leaves this trial out."
        )
        self.loss, self.step = loss, step


# Why: docs/explanation/decisions/trials-by-content.md
def identity(
    trial: Trial, data: Mapping[str, JsonValue], code: Sequence[JsonValue], needs: Sequence[str]
) -> str:
    """A trial's ID: 16 hexadecimal digits of a hash of what its result depends on.

    Args:
        trial: The trial; the folder of its study is no part of it, so that a study can be moved.
        data: What the task says of its data.
        code: Commit and packages, see `code_of`.
        needs: IDs of the trials that it starts from.
    """
    fields = trial.config.model_dump(mode="json", exclude={"out"})
    work = None if trial.work is None else repr(trial.work)
    text = json.dumps([fields, work, data, code, list(needs)], sort_keys=True)
    runs = json.dumps(str(trial.config.out.parent))[1:-1]
    return sha256(text.replace(runs, "").encode()).hexdigest()[:16]


def code_of(provenance: Provenance) -> tuple[JsonValue, ...]:
    """What a result depends on besides config and data: commit, changes to it, packages."""
    return provenance.commit, provenance.changes, dict(provenance.packages)


class Checked(NamedTuple):
    """What a check of some runs found."""

    task: TaskRecord
    sizes: dict[str, Sizes]
    """Name of a trial -> sizes of its model."""
    solved: dict[str, tuple[RunConfig, dict[str, int]]]
    """Name of a trial with a budget -> its config with the size that was solved."""


def check_trials_of(trials: Sequence[Trial], measure: bool) -> Checked:
    """Find what trials on the same data would fail at, before the first of them is trained.

    Args:
        trials: Trials with the same task and settings, that differ in more than their seeds.
        measure: Save each model, to know its bytes.
    Raises:
        EmbshareError: data that cannot be read, no such model, a plan that a table is too small
            for, a budget that cannot be met, settings that a model cannot be trained with; a note
            says which model.
    """
    from embshare.tasks.training import check_training, counted

    task = prepared_task(trials[0].config)
    feed = task.feed()
    checked = Checked(_described(trials[0].config.task, task), {}, {})
    with tempfile.TemporaryDirectory() as scratch:
        models = Models(task, Path(scratch))
        for trial in trials:
            config = trial.config
            try:
                if config.start is not None:
                    config = prepare_started(config).config
                if trial.budget is not None:
                    config, sizes = solved(config, trial.budget, models)
                    checked.solved[trial.name] = config, sizes
                model = models.model(config)
                if config.share is not None:
                    embshare.share_from_embedding(model, config.share)
                average = config.training.average > 1
                check_training(model, counted(config.training, feed), checkpoints=average)
                if measure:
                    checked.sizes[trial.name] = models.sizes(config)
            except EmbshareError as error:
                error.add_note(f"while checking {trial.name}")
                raise
    return checked


def _described(name: str, task: PreparedTask) -> TaskRecord:
    return TaskRecord(name=name, metric=task.metric, data=described(task))


class Done(NamedTuple):
    """What a trial gave, and whether it had been done before."""

    record: TrialRecord
    kept: bool
    task: TaskRecord | None
    """The trial's task; ``None`` where other work was done."""


@dataclass(frozen=True, kw_only=True)
class Doing:
    """How trials are done."""

    code: tuple[JsonValue, ...]
    """Commit, changes and packages, as `code_of` gives them."""
    checkpoints: bool = False
    """Write checkpoints while a trial is trained, and resume one that was killed."""
    keep_checkpoints: bool = False
    """Leave them when it has ended."""


def do_trial(trial: Trial, needs: tuple[str, ...], how: Doing) -> Done:
    """Do a trial and write its record, or read the record where it was done before.

    The folder of the run is marked with the trial's ID before it begins. A record whose folder has
    been used for other code or data since is not kept, as its model is gone; and no run is resumed
    that other code or data began.

    Args:
        trial: The trial; the record is written beside the folder of its run.
        needs: IDs of the trials that it starts from.
        how: Code and checkpoints.
    Raises:
        EmbshareError: whatever the run raises; ``error.txt`` in its folder has the traceback.
        DivergedError: its loss is no number any more.
        RuntimeError: the run raises any other error; not all of them can be sent between processes.
    """
    config, mark = trial.config, trial.config.out / MARK
    config.out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(config.out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise TrialBusyError(folder=config.out) from None
    try:
        return _do(trial, needs, how, config, mark)
    finally:
        (config.out / LOCK).unlink(missing_ok=True)
        lock.release()


def _do(trial: Trial, needs: tuple[str, ...], how: Doing, config: RunConfig, mark: Path) -> Done:
    try:
        task, found = None, dict(trial.solved)
        if trial.work is None:
            task = prepared_task(config)
            if trial.budget is not None and not found:
                with tempfile.TemporaryDirectory() as scratch:
                    config, found = solved(config, trial.budget, Models(task, Path(scratch)))
            task = prepared_task(config)
        trial = replace(trial, config=config, solved=found)
        seen = None if task is None else _described(config.task, task)
        own = identity(trial, {} if seen is None else seen.data, how.code, needs)
        path = config.out.with_name(f"{own}.json")
        begun = mark.read_text(encoding="utf-8").strip() if mark.is_file() else None
        if begun in (None, own) and (before := _read(path)) is not None:
            now = {"name": trial.name, "labels": dict(trial.labels), "rates": dict(trial.rates)}
            return Done(before.model_copy(update=now), kept=True, task=seen)
        write_text(mark, own)
        if trial.work is None:
            result = _train(config, task, checkpoints=how.checkpoints, resume=begun == own)
        else:
            result = trial.work(config, begun == own)
    except Exception as error:
        text = traceback.format_exc()
        with suppress(OSError):  # a disk that is full has no room for this either
            write_text(config.out / FAULT, text)
        if isinstance(error, EmbshareError):
            raise
        raise RuntimeError(f"{type(error).__name__}: {error}\n{text}") from None
    (config.out / FAULT).unlink(missing_ok=True)
    record = TrialRecord(
        id=own,
        name=trial.name,
        labels=dict(trial.labels),
        rates=dict(trial.rates),
        solved=dict(trial.solved),
        result=result,
    )
    write_text(path, record.to_json())
    if not how.keep_checkpoints:
        shutil.rmtree(RunFolder(config.out).checkpoints, ignore_errors=True)
    return Done(record, kept=False, task=seen)


def _read(path: Path) -> TrialRecord | None:
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    try:
        return TrialRecord.from_json(text)
    except InvalidValueError as error:
        with suppress(json.JSONDecodeError):
            fields = json.loads(text)
            if isinstance(fields, dict) and fields.get("format", 0) > FORMAT:
                raise OtherVersionError(path=path, finding=error.faults[0]) from error
        return None  # damaged: do it again


def _train(
    config: RunConfig, task: PreparedTask | None, *, checkpoints: bool, resume: bool
) -> RunResult:
    from embshare.tasks.runs.engine import run
    from embshare.tasks.trainer import DivergedWarning

    config = with_own_tokenizer(config)
    resume = resume and checkpoints and RunFolder(config.out).is_run()
    torch.manual_seed(config.seed)
    own = config.teacher is None and config.start is None  # else it reads with another's processor
    with warnings.catch_warnings():
        warnings.simplefilter("error", DivergedWarning)  # the rest of its steps would be in vain
        try:
            return run(
                config,
                prepared=task if own else None,
                checkpoints=checkpoints or config.training.average > 1,
                overwrite=not resume,
                resume=resume,
            )
        except DivergedWarning as found:
            raise DivergedError(loss=found.loss, step=found.step) from None


def prepared_task(config: RunConfig) -> PreparedTask:
    """The data of a run, as the run reads them."""
    if config.teacher is not None:
        return prepare_taught(config).task
    if config.start is not None:
        return prepare_started(config).task
    config = with_own_tokenizer(config)
    return _prepared(config.task, config.settings.to_json())


def forget_data() -> None:
    """Read data anew from now on: files may have changed since an earlier study in this process."""
    _prepared.cache_clear()


@lru_cache(maxsize=2)
def _prepared(task: str, settings: str) -> PreparedTask:
    """A task's data, read once for the runs that follow each other; settings as JSON."""
    from embshare.tasks.catalogue import TASKS

    entry = TASKS[task]
    made: Any = entry.task(entry.settings_class().from_json(settings)).prepare()
    prepared: PreparedTask = made
    return prepared
