"""Digests of picture files, kept beside the arrays that are known by them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embshare.tasks.captioning.dataset import Picture
from embshare.tasks.captioning.pictures.decoding import digest, in_threads
from embshare.tasks.captioning.pictures.store import key_of, put

__all__ = ["digests_of"]

Stamp = tuple[int, int, int]

ROW: Final = np.dtype([("stamp", "<i8", (3,)), ("digest", "u1", (16,))])
UNSETTLED: Final[Stamp] = (-1, -1, -1)  # the stamp of no file
SETTLED_NS: Final = 2_000_000_000
"""Age from which a later change is sure to give a file another time: some file systems count in
steps of two seconds."""


def digests_of(pictures: Sequence[Picture], folder: Path) -> list[bytes]:
    """A digest of each picture file's bytes; a file that is as it was is not read again.

    A file is taken to be as it was if its size and both of its times are (of its content, and of
    anything else about it). One that had only just been written when it was read is read again the
    next time.

    Args:
        pictures: in files.
        folder: where digests are kept, if it can be written.
    Raises:
        PictureError: one cannot be read; with file and line.
    """
    paths = [_path(picture) for picture in pictures]
    names = [os.fsencode(path.absolute()) for path in paths]
    kept = folder / f"{key_of(['digests', *names])}.digests"
    known = _read(kept, len(paths))
    recent = time.time_ns() - SETTLED_NS

    def one(number: int) -> tuple[Stamp, bytes]:
        stamp = _stamp(paths[number])  # first: a change while it is read gives another one
        if stamp != UNSETTLED and stamp == known[number][0]:
            return known[number]
        settled = stamp if stamp[1] < recent else UNSETTLED
        return settled, digest(paths[number], pictures[number].place)

    found = list(in_threads(one, range(len(paths))))
    if found != known:
        with suppress(OSError):  # the arrays of a folder that cannot be written can still be read
            put(kept, lambda part: _write(part, found))
    return [raw for _, raw in found]


def _path(picture: Picture) -> Path:
    assert picture.path is not None, "drawn pictures have no file"
    return picture.path


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:  # `digest` says what is wrong
        return UNSETTLED
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path, count: int) -> list[tuple[Stamp, bytes]]:
    """What is kept for so many pictures; for none of them, if there is no such file."""
    try:
        found: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return [(UNSETTLED, b"")] * count
    if found.shape != (count,) or found.dtype != ROW:
        return [(UNSETTLED, b"")] * count
    stamps = [(size, content, other) for size, content, other in found["stamp"].tolist()]
    return [(stamp, raw.tobytes()) for stamp, raw in zip(stamps, found["digest"], strict=True)]


def _write(path: Path, rows: Sequence[tuple[Stamp, bytes]]) -> None:
    array = np.empty(len(rows), dtype=ROW)
    array["stamp"] = [stamp for stamp, _ in rows]
    array["digest"] = [np.frombuffer(raw, dtype=np.uint8) for _, raw in rows]
    with path.open("wb") as file:
        np.save(file, array)
