"""Run a task from settings to result: check everything, train, evaluate, save."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from torch import nn

import embshare
from embshare.errors import InvalidValueError
from embshare.tasks.averaging import load_average
from embshare.tasks.measurement.memory import PeakMemory
from embshare.tasks.measurement.provenance import read_provenance
from embshare.tasks.measurement.sizes import sizes_of
from embshare.tasks.processes import gathered, process_state
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.curve import draw_curve
from embshare.tasks.runs.folder import RunFolder, write_text
from embshare.tasks.runs.result import RunResult
from embshare.tasks.runs.starting import Started, prepare_started
from embshare.tasks.runs.teaching import prepare_taught, taught
from embshare.tasks.runs.vocabulary import with_own_tokenizer
from embshare.tasks.saving import save_trained
from embshare.tasks.task import Feed, OnStep, PreparedTask, Training, described
from embshare.tasks.training import Saving, check_training, counted, train

__all__ = ["build_model_of", "run"]


def run(
    config: RunConfig,
    *,
    overwrite: bool = False,
    resume: bool = False,
    checkpoints: bool = True,
    prepared: PreparedTask | None = None,
    on_start: Callable[[int], None] = lambda steps: None,
    on_step: OnStep = lambda: None,
    stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Train a model, evaluate it, and save model and result.

    Errors in settings, folder, data, model and plan are raised before the first step. Several
    processes (``torchrun``, ``accelerate launch``) train one model; the first of them writes.

    Args:
        config: settings of the run, with its folder.
        overwrite: replace an earlier run in that folder.
        resume: resume from the last checkpoint in that folder, or start if there is none. More
            steps or epochs than it began with make the run longer: from its last checkpoint on,
            the learning rate is that of the longer run's schedule.
        checkpoints: write checkpoints, so that the run can be resumed.
        prepared: task whose data were read already.
        on_start: called with the number of steps to make, before the first.
        on_step: called after each step.
        stop: asked after each step whether to write a checkpoint and stop; of one process only.
    Returns:
        The content of ``result.json``.
    Raises:
        InvalidValueError: both ``overwrite`` and ``resume`` are set.
        RunExistsError: the folder is not empty, and neither is set.
        ForeignFolderError: its files are not those of a run.
        OtherRunError: the run to resume has other settings, data, or number of processes.
        NoCheckpointError: the run to resume is finished, and its checkpoints are gone.
        TooFewStepsError: the run to resume has made more steps than are asked for.
        KeyboardInterrupt: ``stop`` said so before the last step.
        EmbshareError: data cannot be read, there is no such model, or the plan does not fit it.
    """
    if overwrite and resume:
        fault = "`overwrite` and `resume` exclude each other: leave one out"
        raise InvalidValueError(what="run", faults=[fault])
    config = config if prepared else with_own_tokenizer(config)
    started = None if config.start is None else prepare_started(config)
    config = config if started is None else started.config
    begun, process, folder = time.perf_counter(), process_state(), RunFolder(config.out)
    provenance = read_provenance()
    if process.is_main_process:
        folder.check(config, overwrite=overwrite, resume=resume)
    taught_by = None if config.teacher is None else prepare_taught(config)
    if started is not None:
        task = started.task
    else:
        task = taught_by.task if taught_by else prepared or config.to_task().prepare()
    model, feed = build_model_of(config, task, started), task.feed()
    feed = feed if taught_by is None else taught(feed, taught_by.teacher, model, config)
    settings, data = counted(task.training, feed), described(task)
    check_training(model, settings, checkpoints=checkpoints)
    if resume:
        folder.check_steps(settings.steps)
    if process.is_main_process:
        _open(folder, config, task, data, overwrite=overwrite, resume=resume)
    process.wait_for_everyone()
    saving = Saving(checkpoints=checkpoints, resume=resume, stop=stop)
    on_start(settings.steps - _made(folder, saving))
    model, trained = _train(config, task, feed, model, folder, saving, on_step)
    if trained.training.stopped:
        raise KeyboardInterrupt
    if process.is_main_process:
        save_trained(model, folder.model)  # before an evaluation, which may fail
    with _samples(folder, process.is_main_process) as samples:
        metrics = dict(task.evaluate(model, folder=samples))
    process.wait_for_everyone()
    sizes = sizes_of(model, folder.model)
    result = RunResult(
        task=config.task,
        metric=task.metric.name,
        metrics=metrics,
        stored_parameters=sizes.stored,
        read_parameters=sizes.read,
        hidden_parameters=sizes.hidden,
        bytes=sizes.bytes_on_disk,
        steps=settings.steps,
        seconds=trained.training.seconds,
        ms_per_step=_median(trained.training.step_ms),
        training_loss=trained.training.loss,
        peak_mib=trained.memory.peak_mib,
        device_peak_mib=trained.memory.device_peak_mib,
        resident_mib=trained.memory.before_mib,
        seed=config.seed,
        processes=process.num_processes,
        config=config,
        data=data,
        provenance=provenance.model_copy(update={"seconds": time.perf_counter() - begun}),
    )
    if process.is_main_process:
        _write(folder, result, trained.training)
    return result


def _open(
    folder: RunFolder,
    config: RunConfig,
    task: PreparedTask,
    data: Mapping[str, object],
    *,
    overwrite: bool,
    resume: bool,
) -> None:
    begin = {"data": data, "processes": process_state().num_processes}
    if resume:
        folder.check_begin(begin)
    folder.open(config, overwrite=overwrite, begin=begin)
    task.processor.save(folder.processor)


def build_model_of(
    config: RunConfig, task: PreparedTask, started: Started | None = None
) -> nn.Module:
    """Build the model, shared or dense; the seed also initializes what sharing adds."""
    model = started.model if started else task.processor.build(config.model, config.seed)
    if config.share is None:
        return model
    start = torch.Generator().manual_seed(config.seed)
    trained = True if started else None
    return embshare.share_from_embedding(model, config.share, generator=start, trained=trained)


def _made(folder: RunFolder, saving: Saving) -> int:
    """Number of steps that were made before the run was stopped."""
    last = folder.last() if saving.resume else None
    return 0 if last is None else last.step


@dataclass(frozen=True)
class _Trained:
    training: Training
    memory: PeakMemory


def _train(
    config: RunConfig,
    task: PreparedTask,
    feed: Feed,
    model: nn.Module,
    folder: RunFolder,
    saving: Saving,
    on_step: OnStep,
) -> tuple[nn.Module, _Trained]:
    with PeakMemory() as memory:
        training = train(
            model,
            feed,
            task.training,
            seed=config.seed,
            folder=folder.checkpoints,
            on_step=on_step,
            saving=saving,
        )
    if training.stopped:
        return model, _Trained(training, memory)
    model = gathered(model, lambda: build_model_of(config, task))
    if (last := task.training.average) > 1:
        load_average(model, folder.checkpoints, last)
    return model, _Trained(training, memory)


@contextmanager
def _samples(folder: RunFolder, main: bool) -> Iterator[Path]:
    """Folder for samples; of several processes, only the first writes into the run's."""
    if main:
        yield folder.samples
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)


def _median(step_ms: tuple[float, ...]) -> float:
    """Median without the first steps, which allocate memory; 0 where no step was left."""
    kept = step_ms[min(10, len(step_ms) // 5) :]
    return statistics.median(kept) if kept else 0.0


def _write(folder: RunFolder, result: RunResult, training: Training) -> None:
    points = [  # JSON has no NaN
        {key: value if isfinite(value) else None for key, value in point.items()}
        for point in training.curve
    ]
    write_text(folder.curve, json.dumps(points, indent=1))
    draw_curve(training.curve, folder.curve.with_suffix(".png"), title=result.config.task)
    write_text(folder.result, result.to_json())
