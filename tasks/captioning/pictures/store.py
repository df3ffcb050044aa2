"""Arrays that are computed once and kept on disk, under a key of all that they come from."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from embshare.tasks.captioning.errors import CaptioningDataError

__all__ = ["CacheFolderError", "default_folder", "key_of", "put", "stored"]

ABANDONED: Final = 24 * 3600.0  # seconds after which a part file has no writer any more
CANNOT_RESERVE: Final = (errno.EINVAL, errno.EOPNOTSUPP)  # of file systems that do not know how


class CacheFolderError(CaptioningDataError):
    """Decoded pictures or features cannot be kept."""

    def __init__(self, *, folder: Path, finding: str) -> None:
        super().__init__(
            f"`{folder}` must be a folder for decoded pictures and features, but cannot be written "
            f"({finding}). Name another with `cache`."
        )
        self.folder, self.finding = folder, finding


def default_folder() -> Path:
    """``embshare/pictures`` in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "embshare" / "pictures"


def key_of(parts: Iterable[bytes | str]) -> str:
    """A name for what is computed from these parts alone."""
    whole = blake2b(digest_size=16)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        whole.update(len(raw).to_bytes(8, "little") + raw)
    return whole.hexdigest()


def stored(
    folder: Path,
    key: str,
    *,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    fill: Callable[[NDArray[Any]], None],
) -> NDArray[Any]:
    """The array of a key, from disk or computed now; mapped into memory, read-only.

    Args:
        folder: is made.
        key: of everything that the array depends on.
        shape: of the array.
        dtype: of the array.
        fill: writes into an array of that shape.
    Raises:
        CacheFolderError: the folder cannot be written, or the disk has no space for the array.
    """

    def write(part: Path) -> None:
        array = np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape)
        _reserve(part)
        fill(array)
        array.flush()

    path = folder / f"{key}.npy"
    if (found := _open(path, shape, dtype)) is not None:
        return found
    try:
        put(path, write)
    except OSError as error:
        raise CacheFolderError(folder=folder, finding=str(error)) from error
    made = _open(path, shape, dtype)
    assert made is not None, "it was just written"
    return made


def put(path: Path, write: Callable[[Path], None]) -> None:
    """Have a file written to its end or not at all; the folder is made.

    Args:
        path: of the file.
        write: gets the path of an empty file, which takes that name when it returns.
    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".part")
    os.close(descriptor)
    part = Path(name)
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _reserve(part: Path) -> None:
    """Take the whole file's space on disk, where the system can.

    A mapped file is sparse at first. A disk that turns out to be full while it is filled is no
    error that could be caught, but ends the process.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with part.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
        except OSError as error:
            if error.errno not in CANNOT_RESERVE:
                raise


def _open(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any] | None:
    """What is on disk, unless it is missing or not what was asked for."""
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.dtype(dtype) else None


def _sweep(folder: Path) -> None:
    """Remove what killed processes left."""
    for part in folder.glob(".*.part"):
        try:
            if time.time() - part.stat().st_mtime > ABANDONED:
                part.unlink(missing_ok=True)
        except OSError:  # another process was faster
            continue
