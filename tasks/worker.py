"""Worker processes that end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import threading

import torch

from embshare.tasks.heap import keep_freed_memory

__all__ = ["begin_worker"]


def begin_worker(threads: int = 1) -> None:
    """Set up a worker process: its threads and memory, and that it ends with its parent.

    A pool ends its workers itself, except when its own process is killed: they would continue with
    work that nobody waits for.

    Args:
        threads: number of threads of torch.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
