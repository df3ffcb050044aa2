"""Many architectures checked in processes of their own, which may hang or crash."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Final

from embshare.tasks.worker import begin_worker
from tests.architectures.architecture import Architecture
from tests.architectures.check import check
from tests.architectures.results import Row

__all__ = ["Job", "check_all"]

START: Final = 120.0
"""Seconds that a process has for its imports, before those for what it checks."""
BEGUN: Final = "begun"
"""What a process says when it has found the architecture that it is asked for."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One architecture, by names: a process finds it again by itself."""

    place: str
    """Module with a function ``architectures``."""
    library: str
    name: str


def check_all(
    jobs: Sequence[Job], *, workers: int = 1, limit: float = 60.0, memory: int = 12 * 2**30
) -> Iterator[Row]:
    """Check each in turn.

    A process that hangs or dies costs the one row that it was at, and another takes its place.

    Args:
        jobs: what to check.
        workers: processes at a time, of one thread each.
        limit: seconds for one.
        memory: bytes that a process may use, where the system can hold it to that.
    Yields:
        One row for each job, as they are done.
    """
    stop = threading.Event()
    idle: SimpleQueue[_Worker] = SimpleQueue()
    everyone = [_Worker(memory, stop) for _ in range(workers)]
    for worker in everyone:
        idle.put(worker)

    def run(job: Job) -> Row:
        worker = idle.get()
        try:
            return worker.ask(job, limit)
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(workers)
    try:
        for done in as_completed([pool.submit(run, job) for job in jobs]):
            yield done.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        for worker in everyone:
            worker.end()


class _Worker:
    """A process, started when it is asked for the first time and again after it died."""

    def __init__(self, memory: int, stop: threading.Event) -> None:
        self.memory, self.stop = memory, stop
        self.process: BaseProcess | None = None
        self.connection: Connection | None = None

    def ask(self, job: Job, limit: float) -> Row:
        begun = time.perf_counter()
        if self.process is None or self.connection is None:
            context = multiprocessing.get_context("spawn")
            self.connection, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs, self.memory), daemon=True)
            self.process.start()
            theirs.close()
        finding = ""
        try:
            self.connection.send(job)
            if self._answered(START) and self.connection.recv() == BEGUN and self._answered(limit):
                return Row.from_json(self.connection.recv())
            finding = f"nothing came of it within {limit:.0f} seconds"
        except (EOFError, OSError):
            self.process.join(5)
            finding = f"its process died (exit code {self.process.exitcode})"
        self.end()
        return Row(
            library=job.library,
            name=job.name,
            outcome="fails",
            stage="in its process",
            finding=finding,
            seconds=round(time.perf_counter() - begun, 2),
        )

    def _answered(self, limit: float) -> bool:
        assert self.connection is not None
        until = time.perf_counter() + limit
        while not self.stop.is_set() and time.perf_counter() < until:
            if self.connection.poll(0.2):
                return True
        return False

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
        if self.connection is not None:
            self.connection.close()
        self.process = self.connection = None


def _serve(connection: Connection, memory: int) -> None:
    """In the process: one row for each job that comes."""
    _be_quiet()
    _hold(memory)
    begin_worker()
    found: dict[str, dict[tuple[str, str], Architecture]] = {}
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        if job.place not in found:
            every = importlib.import_module(job.place).architectures()
            found[job.place] = {(a.library, a.name): a for a in every}
        architecture = found[job.place][job.library, job.name]
        connection.send(BEGUN)
        connection.send(check(architecture).to_json())


def _be_quiet() -> None:
    """Libraries print and warn; what matters is in the row."""
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(nowhere, stream.fileno())


def _hold(memory: int) -> None:
    """Too large a model ends with an error instead of taking the machine along."""
    try:
        import resource
    except ImportError:  # not on every system
        return
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
