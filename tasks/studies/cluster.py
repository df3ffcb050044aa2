"""Trials as tasks of a Ray cluster."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Self, TypeVar, final

from embshare.errors import EmbshareError, MissingPackageError

__all__ = ["ClusterError", "RayPool"]

Result = TypeVar("Result")
LOCAL: Final = "local"
HOST_AND_PORT: Final = re.compile(r"(?!ray://)(.+):(\d{1,5})")
ANSWER: Final = 10.0
"""Seconds in which a cluster must answer."""


class ClusterError(EmbshareError, RuntimeError):
    """There is no such Ray cluster, or it does not see what a study needs."""

    def __init__(self, *, address: str, finding: str) -> None:
        super().__init__(
            f"`ray`: must be the address of a Ray cluster that answers, or local, but is {address} "
            f"({finding}). `ray status` shows a cluster; `ray start --head` begins one."
        )
        self.address, self.finding = address, finding


@final
class RayPool:
    """The nodes of a Ray cluster.

    Trials are written into the study's folder by the node that does them, so it has to be on a file
    system that all nodes see, as on a cluster's shared disk. A trial whose node is lost is begun
    anew on another by `embshare.tasks.studies.workers.each`, not by Ray, so that it is counted and
    shown like a lost process of this machine.

    Args:
        address: As of ``ray.init``: ``HOST:PORT``, ``auto``; ``local`` begins a cluster of this
            machine alone.
        folder: The study's folder, which every node has to see.
        cpus: Cores that a trial takes.
        gpus: Accelerators that a trial takes.
    Raises:
        MissingPackageError: Ray is not installed.
    """

    def __init__(self, address: str, folder: Path, *, cpus: float = 1, gpus: float = 0) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise MissingPackageError(package="ray", extra="sweep") from error
        self._ray: Any = ray
        self._address, self._folder = address, folder
        self._cpus, self._gpus = cpus, gpus

    def __enter__(self) -> Self:
        ray = self._ray
        self._own = not ray.is_initialized()
        if self._own:
            local = self._address == LOCAL
            self._check_answers()
            try:
                ray.init(
                    address=LOCAL if local else self._address,
                    log_to_driver=False,
                    logging_level="ERROR",
                    include_dashboard=False if local else None,
                )
            except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
                lines = str(error).splitlines() or [type(error).__name__]
                raise ClusterError(address=self._address, finding=lines[0].rstrip(".")) from error
        if not self.jobs:
            finding = f"no node has {self._cpus:g} cores and {self._gpus:g} accelerators"
            raise ClusterError(address=self._address, finding=finding)
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            self._ray.shutdown()

    def _check_answers(self) -> None:
        """Find in seconds that nobody listens: Ray tries for minutes, then ends the process."""
        found = HOST_AND_PORT.fullmatch(self._address)
        if found is not None:
            try:
                socket.create_connection((found[1], int(found[2])), timeout=ANSWER).close()
            except OSError as error:
                finding = error.strerror or str(error)
                raise ClusterError(address=self._address, finding=finding) from error

    @property
    def jobs(self) -> int:
        """How many fit on all nodes that the cluster has now, and some that wait.

        Ray places them; a few are given to it before there is room, so that no node waits for this
        process.
        """
        fits = 0
        for node in self._ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                by_gpu = int(has.get("GPU", 0) // self._gpus) if self._gpus else None
                by_cpu = int(has.get("CPU", 0) // self._cpus)
                fits += by_cpu if by_gpu is None else min(by_cpu, by_gpu)
        return fits + max(1, fits // 8) if fits else 0

    def submit(self, work: Callable[..., Result], arguments: tuple[Any, ...]) -> Future[Result]:
        """Give some work to the cluster."""
        task = self._ray.remote(_done)
        wanted = task.options(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0)
        future: Future[Result] = Future()

        def end(done: Future[Result]) -> None:
            error = done.exception()
            if error is None:
                future.set_result(done.result())
            else:  # as it was raised on the node, without Ray's traceback around it
                future.set_exception(getattr(error, "cause", None) or error)

        # Before a study has begun there is no folder that a node could see.
        seen = str(self._folder) if self._folder.is_dir() else None
        wanted.remote(seen, work, arguments).future().add_done_callback(end)
        return future

    def was_lost(self, error: BaseException) -> bool:
        """Whether a node or a process ended before its work."""
        lost = self._ray.exceptions
        kinds = (lost.WorkerCrashedError, lost.NodeDiedError, lost.ObjectLostError)
        return isinstance(error, (*kinds, lost.OutOfMemoryError))

    def learn(self, mib: float) -> None: ...


def _done(folder: str | None, work: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    """Do some work on a node of the cluster."""
    from embshare.tasks.worker import begin_worker

    if folder is not None and not Path(folder).is_dir():
        raise ClusterError(address=os.uname().nodename, finding=f"this node does not see {folder}")
    begin_worker(int(os.environ.get("OMP_NUM_THREADS") or 1))
    return work(*arguments)
