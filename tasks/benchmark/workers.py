"""Checks and runs in processes of their own, so that every core trains a model of its own.

A small model gains little from a second core, and two small models gain all of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context
from typing import Any, Self, TypeVar, final

import torch

import embshare
from embshare.errors import EmbshareError
from embshare.tasks.running.config import RunConfig
from embshare.tasks.running.result import RunResult
from embshare.tasks.task import PreparedTask
from embshare.tasks.worker import begin_worker

__all__ = ["LostWorkerError", "Workers", "check_runs", "default_jobs", "run_one"]

Result = TypeVar("Result")


class LostWorkerError(EmbshareError, RuntimeError):
    """A process ended before its work did."""

    def __init__(self, *, names: Sequence[str]) -> None:
        super().__init__(
            "processes that train models must live until all are trained, but one of those with "
            f"{', '.join(names)} was ended from outside, as a system does that has no memory left. "
            "Keep what is trained with --resume, and train fewer models at once with --jobs."
        )
        self.names = tuple(names)


def default_jobs() -> int:
    """One for each core that this process may use; one where there is an accelerator to share."""
    if torch.cuda.is_available():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@final
class Workers:
    """Some processes that work at once; one is this process, with all threads that torch has.

    Args:
        jobs: How many.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.jobs > 1:
            context = get_context("spawn")  # a forked process has torch's threads in any state
            threads = max(1, torch.get_num_threads() // self.jobs)
            self._pool = ProcessPoolExecutor(
                self.jobs, context, initializer=begin_worker, initargs=(threads,)
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def each(
        self, work: Callable[..., Result], given: Mapping[str, tuple[Any, ...]]
    ) -> Iterator[tuple[str, Result]]:
        """Do all, some at a time, and yield each by its name as soon as it is done.

        Args:
            work: A function of a module, which other processes can import.
            given: Its arguments by name; earlier ones begin earlier.
        Raises:
            LostWorkerError: a process ended before its work.
            Exception: whatever the work raises; what has not begun is given up.
        """
        if self._pool is None:
            yield from ((name, work(*arguments)) for name, arguments in given.items())
            return
        futures: dict[Future[Result], str] = {}
        try:
            for name, arguments in given.items():
                futures[self._pool.submit(work, *arguments)] = name
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            ended = {name for future, name in futures.items() if _is_well(future)}
            waiting = [name for name in given if name not in ended]
            raise LostWorkerError(names=waiting[: self.jobs]) from error  # taken in their order


def _is_well(future: Future[Any]) -> bool:
    return future.done() and future.exception() is None


def run_one(config: RunConfig) -> RunResult:
    """Train a model in place of whatever its folder holds."""
    from embshare.tasks.running.engine import run

    torch.manual_seed(config.seed)
    return run(
        config,
        prepared=_prepared(config.task, config.settings.to_json()),
        checkpoints=_needs_checkpoints(config),
        overwrite=True,
    )


def check_runs(configs: Sequence[RunConfig], task: PreparedTask | None) -> None:
    """Find what runs of one task would fail at, before the first of them is trained.

    Args:
        configs: Of runs that differ in more than their seeds.
        task: Their data; a process that does not have them reads them, as it will for training.
    Raises:
        EmbshareError: a plan that a table is too small for, settings that a model cannot be
            trained with; a note says which model.
    """
    from embshare.tasks.training import check_training, counted

    task = task or _prepared(configs[0].task, configs[0].settings.to_json())
    feed = task.feed()
    for config in configs:
        try:
            model = task.processor.build(config.model, config.seed)
            if config.share is not None:
                embshare.share_from_embedding(model, config.share)
            settings = counted(config.training, feed)
            check_training(model, settings, checkpoints=_needs_checkpoints(config))
        except EmbshareError as error:
            error.add_note(f"while checking {config.out.name}")
            raise


def _needs_checkpoints(config: RunConfig) -> bool:
    """They are written to be averaged; nobody else needs them here."""
    return config.training.average > 1


@lru_cache(maxsize=2)
def _prepared(task: str, settings: str) -> PreparedTask:
    """A task's data, read once for the runs that follow each other; settings as JSON."""
    from embshare.tasks.catalogue import TASKS

    entry = TASKS[task]
    return entry.task(entry.settings_class().from_json(settings)).prepare()
