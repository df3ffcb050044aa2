"""Pools that trials are done in, and the order in which they are.

A small model gains little from a second core, and two small models gain all of it: every core, or
every accelerator, trains its own model.
"""

from __future__ import annotations

import heapq
import os
import signal
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import MappingProxyType, TracebackType
from typing import Any, Final, Protocol, Self, TypeVar, final

import torch

from embshare.errors import EmbshareError
from embshare.tasks.worker import begin_worker

__all__ = ["LostWorkerError", "Pool", "Processes", "ThisProcess", "default_jobs", "each"]

Result = TypeVar("Result")
NOTHING: Final[Mapping[str, Collection[str]]] = MappingProxyType({})
SPARE: Final = 0.9  # of the memory that is free at the start may be used


class LostWorkerError(EmbshareError, RuntimeError):
    """A process ended before its work did, as often as it was begun anew."""

    def __init__(self, *, name: str, times: int) -> None:
        super().__init__(
            f"a process that does a trial must live until it is done, but that of {name} was ended "
            f"from outside {times} time{'s' * (times > 1)}, as a system does that has no memory "
            "left. Run fewer at once with --jobs, or make the model or its batches smaller."
        )
        self.name, self.times = name, times


class Pool(Protocol):
    """Some places where work is done, at most `jobs` at a time."""

    @property
    def jobs(self) -> int:
        """How many are done at once, as far as is known by now."""
        ...

    def submit(self, work: Callable[..., Result], arguments: tuple[Any, ...]) -> Future[Result]:
        """Begin some work in a place that is free."""
        ...

    def was_lost(self, error: BaseException) -> bool:
        """Whether an error means that the place was lost, not that the work failed."""
        ...

    def learn(self, mib: float) -> None:
        """Be told what one trial takes of a process's memory."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def each(
    pool: Pool,
    work: Callable[..., Result],
    names: Iterable[str],
    arguments: Callable[[str], tuple[Any, ...]],
    *,
    needs: Mapping[str, Collection[str]] = NOTHING,
    fail_fast: bool = True,
    retries: int = 0,
) -> Iterator[tuple[str, Result | Exception]]:
    """Do all, some at a time, and yield each by its name as soon as it has ended.

    Args:
        pool: Where it is done.
        work: A function of a module, which other processes can import.
        names: What is to be done; earlier ones begin earlier.
        arguments: Name -> arguments of the work, asked for when it begins. It may raise an
            `EmbshareError`, which is how this one ends: because what it needs has failed.
        needs: Name -> names of what must have ended before, well or not.
        fail_fast: Raise the first error; otherwise it is yielded, and the rest goes on.
        retries: How often work is begun anew whose process was lost.
    Raises:
        LostWorkerError: a process was lost once more than that, with ``fail_fast``.
        Exception: whatever the work raises, with ``fail_fast``.
    """
    order = {name: place for place, name in enumerate(names)}
    open_needs = {name: {n for n in needs.get(name, ()) if n in order} for name in order}
    dependents: dict[str, list[str]] = {}
    for name, found in open_needs.items():
        for need in found:
            dependents.setdefault(need, []).append(name)
    ready = [(place, name) for name, place in order.items() if not open_needs[name]]
    running, lost = dict[Future[Result], str](), Counter[str]()
    while ready or running:
        while ready and len(running) < pool.jobs:
            name = heapq.heappop(ready)[1]
            running[_begun(pool, work, name, arguments)] = name
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            name, error = running.pop(future), future.exception()
            if error is not None and pool.was_lost(error):
                lost[name] += 1
                if lost[name] <= retries:
                    heapq.heappush(ready, (order[name], name))
                    continue
                error = LostWorkerError(name=name, times=lost[name])
            if error is not None and (fail_fast or not isinstance(error, Exception)):
                raise error
            for other in dependents.get(name, ()):
                open_needs[other].discard(name)
                if not open_needs[other]:
                    heapq.heappush(ready, (order[other], other))
            yield name, future.result() if error is None else error


def _begun(
    pool: Pool,
    work: Callable[..., Result],
    name: str,
    arguments: Callable[[str], tuple[Any, ...]],
) -> Future[Result]:
    try:
        given = arguments(name)
    except EmbshareError as error:
        refused: Future[Result] = Future()
        refused.set_exception(error)
        return refused
    return pool.submit(work, given)


def default_jobs() -> int:
    """One for each accelerator; without any, one for each core that this process may use."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@final
class ThisProcess:
    """A pool of this process alone, with all threads that torch has: to debug, and for tests."""

    jobs: Final = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Result], arguments: tuple[Any, ...]) -> Future[Result]:
        """Do it at once."""
        future: Future[Result] = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def was_lost(self, error: BaseException) -> bool:
        """Return False: this process lives."""
        return False

    def learn(self, mib: float) -> None: ...


@final
class Processes:
    """A pool of processes of this machine, each with its share of the threads and its accelerator.

    Every place has an executor of its own, so that a process that is ended from outside takes no
    other trial with it.

    Args:
        jobs: Number of processes; fewer work at once where memory is too small for as many.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs, self._peak = jobs, 0.0
        self._places: dict[int, ProcessPoolExecutor] = {}
        self._running: dict[int, Future[Any]] = {}

    def __enter__(self) -> Self:
        import psutil  # type: ignore[import-untyped]

        self._memory = SPARE * psutil.virtual_memory().available / 2**20
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for place in self._places.values():
            if kind is not None:  # nobody waits for what has not ended
                for process in list((place._processes or {}).values()):
                    process.kill()
            place.shutdown(cancel_futures=True)

    @property
    def jobs(self) -> int:
        """How many fit into the memory that was free at the start."""
        fitting = int(self._memory // self._peak) if self._peak else self._jobs
        return max(1, min(self._jobs, fitting))

    def learn(self, mib: float) -> None:
        """Note the largest peak memory of a trial so far, in MiB."""
        self._peak = max(self._peak, mib)

    def was_lost(self, error: BaseException) -> bool:
        """Whether the process ended before its work."""
        return isinstance(error, BrokenProcessPool)

    def submit(self, work: Callable[..., Result], arguments: tuple[Any, ...]) -> Future[Result]:
        """Begin some work in a process that is free."""
        # Asked for here, not noted by a callback: callbacks run after a waiting thread goes on.
        place = next(
            n for n in range(self._jobs) if n not in self._running or self._running[n].done()
        )
        before = self._running.get(place)
        if before is not None and isinstance(before.exception(), BrokenProcessPool):
            self._places.pop(place).shutdown(wait=False)
        future = self._running[place] = self._executor(place).submit(work, *arguments)
        return future

    def _executor(self, place: int) -> ProcessPoolExecutor:
        if place not in self._places:
            threads = max(1, torch.get_num_threads() // self._jobs)
            context = get_context("spawn")  # a forked process has torch's threads in any state
            self._places[place] = ProcessPoolExecutor(
                1, context, initializer=_begin, initargs=(threads, _device(place))
            )
        return self._places[place]


def _device(place: int) -> str | None:
    """The accelerator of a place, as ``CUDA_VISIBLE_DEVICES`` names it."""
    if not torch.cuda.is_available():
        return None
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = given.split(",") if given else [str(n) for n in range(torch.cuda.device_count())]
    return known[place % len(known)]


def _begin(threads: int, device: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: its leader acts
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    begin_worker(threads)
