"""Trials in separate processes, so that every core trains its own model.

A small model gains little from a second core, and two small models gain all of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar, final

import torch

from embshare.errors import EmbshareError
from embshare.tasks.worker import begin_worker

__all__ = ["LostWorkerError", "Workers", "default_jobs"]

Result = TypeVar("Result")
NOTHING: Final[Mapping[str, Collection[str]]] = MappingProxyType({})


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
        jobs: Number of processes.
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
        self,
        work: Callable[..., Result],
        names: Iterable[str],
        arguments: Callable[[str], tuple[Any, ...]],
        *,
        needs: Mapping[str, Collection[str]] = NOTHING,
        fail_fast: bool = True,
    ) -> Iterator[tuple[str, Result | Exception]]:
        """Do all, some at a time, and yield each by its name as soon as it is done.

        Args:
            work: A function of a module, which other processes can import.
            names: What is to be done; earlier ones begin earlier.
            arguments: From a name to the arguments of the work, asked for when it begins.
            needs: Name -> names of what must be done before. What needs something that failed is
                left out.
            fail_fast: Raise the first error; otherwise it is yielded, and the rest goes on.
        Raises:
            LostWorkerError: a process ended before its work.
            Exception: whatever the work raises, with ``fail_fast``.
        """
        waiting, done = list(names), set[str]()
        running: dict[Future[Result], str] = {}
        while True:
            ready = [name for name in waiting if done.issuperset(needs.get(name, ()))]
            for name in ready[: self.jobs - len(running)]:
                waiting.remove(name)
                running[self._begin(work, arguments(name))] = name
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise LostWorkerError(names=list(running.values())) from error
                name = running.pop(future)
                if error is None:
                    done.add(name)
                elif fail_fast or not isinstance(error, Exception):
                    raise error
                yield name, future.result() if error is None else error

    def _begin(self, work: Callable[..., Result], arguments: tuple[Any, ...]) -> Future[Result]:
        if self._pool is not None:
            return self._pool.submit(work, *arguments)
        future: Future[Result] = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future
