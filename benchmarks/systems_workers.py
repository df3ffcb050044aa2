"""The runs of a study in processes, each on one thread."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

import transformers
from systems_runs import Piece, Places, Record, Scale, do

from embshare.tasks.worker import begin_worker

__all__ = ["do_all"]


def do_all(
    wanted: Sequence[Piece], scale: Scale, places: Places, *, jobs: int
) -> Iterator[tuple[Piece, Record | BaseException]]:
    """Do all pieces in order, some at a time, none before what it needs.

    What fails is yielded as its error; what needs it is left out, the rest goes on.
    """
    context = multiprocessing.get_context("spawn")
    waiting, finished = list(wanted), set[Piece]()
    running: dict[Future[Record], Piece] = {}
    pool = ProcessPoolExecutor(jobs, context, initializer=begin_quietly)
    try:
        while True:
            ready = [piece for piece in waiting if finished.issuperset(piece.after)]
            for piece in ready[: jobs - len(running)]:
                waiting.remove(piece)
                running[pool.submit(do_in_worker, piece, scale, places)] = piece
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                piece = running.pop(future)
                error = future.exception()
                if error is None:
                    finished.add(piece)
                yield piece, error or future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def do_in_worker(piece: Piece, scale: Scale, places: Places) -> Record:
    """`do`, whose errors become text: not every one of them can travel between processes."""
    try:
        return do(piece, scale, places)
    except Exception:
        told = traceback.format_exc()
    raise RuntimeError(f"{piece.model}, seed {piece.seed}, {piece.kind}:\n{told}")


def begin_quietly() -> None:
    """One thread, and no bars."""
    begin_worker()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
