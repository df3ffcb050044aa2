"""Runs in processes of their own, so that every core trains a model of its own.

A small model gains little from a second core, and two small models gain all of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context

import torch

from embshare.tasks.running.config import RunConfig
from embshare.tasks.running.result import RunResult
from embshare.tasks.task import PreparedTask
from embshare.tasks.worker import begin_worker

__all__ = ["default_jobs", "run_all"]


def default_jobs() -> int:
    """One for each core that this process may use; one where there is an accelerator to share."""
    if torch.cuda.is_available():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def run_all(configs: Sequence[RunConfig], *, jobs: int) -> Iterator[tuple[int, RunResult]]:
    """Run all, some at a time, and yield each with its number as soon as it is done.

    Args:
        configs: The runs; earlier ones begin earlier.
        jobs: How many at once. One runs in this process, with all threads that torch has.
    Raises:
        Exception: whatever a run raises; those that have not begun are given up.
    """
    if jobs == 1:
        for index, config in enumerate(configs):
            yield index, _run(config)
        return
    context = get_context("spawn")  # a forked process has torch's threads in an unknown state
    threads = max(1, torch.get_num_threads() // jobs)
    pool = ProcessPoolExecutor(jobs, context, initializer=begin_worker, initargs=(threads,))
    try:
        futures = {pool.submit(_run, config): index for index, config in enumerate(configs)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _run(config: RunConfig) -> RunResult:
    from embshare.tasks.running.engine import run

    torch.manual_seed(config.seed)
    prepared = _prepared(config.task, config.settings.to_json())
    average = config.training.average > 1  # of checkpoints, which nobody else needs here
    return run(config, prepared=prepared, checkpoints=average, overwrite=True)


@lru_cache(maxsize=2)
def _prepared(task: str, settings: str) -> PreparedTask:
    """A task's data, read once for the runs that follow each other; settings as JSON."""
    from embshare.tasks.catalogue import TASKS

    entry = TASKS[task]
    return entry.task(entry.settings_class().from_json(settings)).prepare()
