"""A picture file as pixels."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from embshare.tasks.captioning.errors import PictureError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Pixels", "decode", "digest", "in_threads"]

Pixels = NDArray[np.uint8]
AHEAD: Final = 64  # pictures that are worked on at once, so that few are held in memory

Given = TypeVar("Given")
Made = TypeVar("Made")


def digest(path: Path, place: str | None = None) -> bytes:
    """Of a file's bytes.

    Raises:
        PictureError: it cannot be read.
    """
    return blake2b(_read(path, place), digest_size=16).digest()


def decode(path: Path, size: int, place: str | None = None) -> Pixels:
    """A picture as ``[size, size, 3]``, upright, squeezed into a square: all of it is seen.

    Args:
        path: of a file that Pillow can read.
        size: pixels of the square's side.
        place: file and line that name it, for the error.
    Raises:
        PictureError: it cannot be read, is no picture, is cut off, or has values of which nobody
            knows how bright they are.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    raw = _read(path, place)
    try:
        with Image.open(io.BytesIO(raw)) as image:
            image.draft("RGB", (size, size))  # a JPEG is decoded no larger than needed
            whole = _of_eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
            small = whole.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
            return np.asarray(small)
    except UnidentifiedImageError as error:
        finding = "is none" if raw else "is empty"
        raise PictureError(path=path, finding=finding, place=place) from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise PictureError(path=path, finding=f"is not ({error})", place=place) from error


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits with the upper eight of them; Pillow would cut off at 255."""
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() >= 1 << 16:
        raise ValueError(f"its values, of mode {image.mode}, are not those of 8 or 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _read(path: Path, place: str | None) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        finding = f"cannot be opened ({error.strerror})"
        raise PictureError(path=path, finding=finding, place=place) from error


def in_threads(work: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
    """What ``work`` makes of each item, in order; Pillow decodes beside Python's other threads."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        remaining = iter(items)
        while some := list(islice(remaining, AHEAD)):
            yield from pool.map(work, some)
