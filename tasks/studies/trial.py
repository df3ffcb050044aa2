"""One trial, in whichever process does it: its data, its identity, its training, its record."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import JsonValue

import embshare
from embshare._value import Record
from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.measurement.provenance import Provenance
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.folder import RunFolder, write_text
from embshare.tasks.runs.result import RunResult
from embshare.tasks.runs.teaching import prepare_taught
from embshare.tasks.runs.vocabulary import with_own_tokenizer
from embshare.tasks.studies.study import FAULT, MARK, Trial
from embshare.tasks.task import Metric, PreparedTask, described

__all__ = [
    "TaskRecord",
    "TrialRecord",
    "check_runs",
    "code_of",
    "do_trial",
    "forget_data",
    "identity",
]


class TaskRecord(Record):
    """A task, as it was run."""

    name: str
    metric: Metric
    data: dict[str, JsonValue]
    """Sources, sizes and fingerprints."""


class TrialRecord(Record):
    """The content of ``trials/ID.json``: what one trial is and what it gave."""

    format: Literal[1] = 1
    id: str
    """Hash of everything that the result depends on, see `identity`."""
    name: str
    """Name of the folder of its run."""
    labels: dict[str, str]
    """Axis -> the value of this trial, as it is shown."""
    result: RunResult


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


def check_runs(configs: Sequence[RunConfig]) -> TaskRecord:
    """Find what runs on the same data would fail at, before the first of them is trained.

    Args:
        configs: Configs with the same task and settings, that differ in more than their seeds.
    Returns:
        Their task and data.
    Raises:
        EmbshareError: data that cannot be read, no such model, a plan that a table is too small
            for, settings that a model cannot be trained with; a note says which model.
    """
    from embshare.tasks.training import check_training, counted

    task = _prepare(configs[0])
    feed = task.feed()
    for config in configs:
        try:
            model = task.processor.build(config.model, config.seed)
            if config.share is not None:
                embshare.share_from_embedding(model, config.share)
            average = config.training.average > 1
            check_training(model, counted(config.training, feed), checkpoints=average)
        except EmbshareError as error:
            error.add_note(f"while checking {config.out.name}")
            raise
    return TaskRecord(name=configs[0].task, metric=task.metric, data=described(task))


class Done(NamedTuple):
    """What a trial gave, and whether it had been done before."""

    record: TrialRecord
    kept: bool


def do_trial(
    trial: Trial, code: tuple[JsonValue, ...], needs: tuple[str, ...], checkpoints: bool
) -> Done:
    """Do a trial and write its record, or read the record where it was done before.

    The folder of the run is marked with the trial's ID before it begins. A record whose folder has
    been used for other code or data since is not kept, as its model is gone; and no run is resumed
    that other code or data began.

    Args:
        trial: The trial; its record goes beside the folder of its run.
        code: As `code_of` gives it.
        needs: IDs of the trials that it starts from.
        checkpoints: Write checkpoints while it trains, and resume one that was killed.
    Raises:
        EmbshareError: whatever the run raises; ``error.txt`` in its folder has the traceback.
        RuntimeError: the run raises any other error; not all of them can be sent between processes.
    """
    config, mark = trial.config, trial.config.out / MARK
    try:
        task = None if trial.work is not None else _prepare(config)
        own = identity(trial, {} if task is None else described(task), code, needs)
        path = config.out.with_name(f"{own}.json")
        begun = mark.read_text(encoding="utf-8").strip() if mark.is_file() else None
        if begun in (None, own) and (found := _read(path)) is not None:
            now = {"name": trial.name, "labels": dict(trial.labels)}
            return Done(found.model_copy(update=now), kept=True)
        config.out.mkdir(parents=True, exist_ok=True)
        write_text(mark, own)
        if trial.work is None:
            result = _train(config, task, checkpoints=checkpoints, resume=begun == own)
        else:
            result = trial.work(config, begun == own)
    except Exception as error:
        text = traceback.format_exc()
        config.out.mkdir(parents=True, exist_ok=True)
        write_text(config.out / FAULT, text)
        if isinstance(error, EmbshareError):
            raise
        raise RuntimeError(f"{type(error).__name__}: {error}\n{text}") from None
    (config.out / FAULT).unlink(missing_ok=True)
    record = TrialRecord(id=own, name=trial.name, labels=dict(trial.labels), result=result)
    write_text(path, record.to_json())
    shutil.rmtree(RunFolder(config.out).checkpoints, ignore_errors=True)
    return Done(record, kept=False)


def _read(path: Path) -> TrialRecord | None:
    if not path.is_file():
        return None
    try:
        return TrialRecord.from_json(path.read_text(encoding="utf-8"))
    except InvalidValueError:  # of another version: do it again
        return None


def _train(
    config: RunConfig, task: PreparedTask | None, *, checkpoints: bool, resume: bool
) -> RunResult:
    from embshare.tasks.runs.engine import run

    config = with_own_tokenizer(config)
    resume = resume and checkpoints and RunFolder(config.out).is_run()
    torch.manual_seed(config.seed)
    return run(
        config,
        prepared=task if config.teacher is None else None,  # who is taught reads with the teacher
        checkpoints=checkpoints or config.training.average > 1,
        overwrite=not resume,
        resume=resume,
    )


def _prepare(config: RunConfig) -> PreparedTask:
    """The data of a run, as the run reads them."""
    if config.teacher is not None:
        return prepare_taught(config).task
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
