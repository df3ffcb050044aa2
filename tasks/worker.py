"""Processes that work for another one, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import threading

import torch

from embshare.tasks.heap import keep_freed_memory

__all__ = ["begin_worker"]


def begin_worker(threads: int = 1) -> None:
    """What a worker does first: take its threads and memory, and end when its starter ends.

    A pool ends its workers itself, except when its own process is killed: they would go on with
    work that nobody waits for.

    Args:
        threads: of torch.
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
