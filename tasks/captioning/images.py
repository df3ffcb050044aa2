"""Pixels of images, or features of a frozen encoder; computed once and kept on disk."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embshare.tasks.captioning.data import CaptionedImage
from embshare.tasks.captioning.model import ImageEncoder
from embshare.tasks.errors import DataError, Place
from embshare.tasks.task import Batch

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]
    from PIL import Image

__all__ = [
    "ModelInputs",
    "Pixels",
    "decode",
    "encode_pixels",
    "read_images",
    "to_tensor",
]

Pixels = NDArray[np.uint8]
TRANSFORM: Final = "square, bilinear, draft, 2"  # how `decode` makes pixels: change them together
AT_ONCE: Final = 64


def decode(path: Path, size: int, place: Place | None = None) -> Pixels:
    """An image as ``[size, size, 3]``, upright, squeezed into a square: all of it is seen.

    `datasets.Image` would decode it too, but its errors name no file, it cuts grey values of 16
    bits off at 255, and it reads JPEGs at full size: from 224 to 112 pixels that takes 1.6
    times as long.

    Args:
        path: of a file that Pillow can read.
        size: pixels of the square's side.
        place: file and line that name it, for the error.
    Raises:
        DataError: it cannot be read, is no image, is cut off, or has values of which nobody knows
            how bright they are.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    raw = b""
    cause: Exception
    try:
        raw = path.read_bytes()
        with Image.open(io.BytesIO(raw)) as image:
            image.draft("RGB", (size, size))  # a JPEG is decoded no larger than needed
            whole = _of_eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
            small = whole.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
            return np.asarray(small)
    except UnidentifiedImageError as error:
        has, cause = "is none" if raw else "is empty", error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        has, cause = f"is not ({getattr(error, 'strerror', None) or error})", error
    raise DataError(
        *(place or Place(path)),
        needs=f"{'be' if place is None else 'name'} a whole image that Pillow can read",
        has=has if place is None else f"`{path}` {has}",
        hint="Fetch the file again, or take it out of the captions.",
    ) from cause


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits with the upper eight of them; Pillow would cut off at 255."""
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() >= 1 << 16:
        raise ValueError(f"its values, of mode {image.mode}, are not those of 8 or 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


@final
@dataclass(frozen=True)
class ModelInputs:
    """Pixels or features of each image of a split, in order."""

    rows: Dataset | NDArray[Any]
    """Column of bytes, whose file each worker process maps for itself; or an array in memory."""
    shape: tuple[int, ...]
    """Shape for one image: pixels ``[S, S, 3]`` or features ``[G, C]``."""
    dtype: str
    """``uint8`` for pixels, ``float16`` for features."""

    @classmethod
    def of(cls, array: NDArray[Any]) -> ModelInputs:
        """Inputs that are in memory already, ``[N, *shape]``."""
        return cls(array, array.shape[1:], array.dtype.name)

    def __len__(self) -> int:
        return len(self.rows)

    def arrays(self, numbers: Sequence[int]) -> NDArray[Any]:
        """The inputs of some images, ``[len(numbers), *shape]``."""
        if isinstance(self.rows, np.ndarray):
            return self.rows[list(numbers)]
        raw: list[bytes] = self.rows[list(numbers)]["raw"]
        return np.frombuffer(b"".join(raw), dtype=self.dtype).reshape(-1, *self.shape)

    def first(self, count: int | None) -> ModelInputs:
        """The inputs of the first images; ``None`` is all."""
        if count is None or count >= len(self):
            return self
        if isinstance(self.rows, np.ndarray):
            return ModelInputs(self.rows[:count], self.shape, self.dtype)
        return ModelInputs(self.rows.select(range(count)), self.shape, self.dtype)

    def fingerprint(self) -> str:
        """Digest of all inputs in order."""
        digest = blake2b(digest_size=8)
        for begin in range(0, len(self), AT_ONCE):
            digest.update(self.arrays(range(begin, min(begin + AT_ONCE, len(self)))).tobytes())
        return digest.hexdigest()

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Some images under the name that `Captioner.forward` has for them."""
        some = self.arrays(numbers)
        if self.dtype == "uint8":
            return {"pixels": to_tensor(some)}
        return {"features": torch.from_numpy(some.copy())}

    def batches(self, size: int) -> Iterator[Batch]:
        """All images in order."""
        for begin in range(0, len(self), size):
            yield self.batch(range(begin, min(begin + size, len(self))))


def read_images(
    images: Sequence[CaptionedImage],
    size: int,
    cache: Path | None = None,
    encoder: ImageEncoder | None = None,
) -> ModelInputs:
    """Decode every image, and encode it where there is a frozen encoder; or find both on disk.

    The file is known by the images' paths, sizes and times, the way they are scaled and the
    encoder's weights, so that a change of any makes another. A key of the images' content would
    have all files read at each start (19 GB of COCO), in place of a look at each in 2 microseconds.

    Raises:
        DataError: an image cannot be decoded, with file and line; or the cache cannot be written.
    """
    from datasets import Dataset, Features, Value, config
    from datasets.fingerprint import Hasher  # type: ignore[import-untyped]
    from pyarrow import ArrowInvalid  # type: ignore[import-untyped]

    def work(rows: dict[str, list[int]]) -> dict[str, list[bytes]]:
        def one(number: int) -> Pixels:
            image = images[number]
            assert image.path is not None, "drawn images are not decoded"
            return decode(image.path, size, image.place)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            pixels = np.stack(list(pool.map(one, rows["number"])))
        made = pixels if encoder is None else encode_pixels(encoder, pixels)
        return {"raw": [one.tobytes() for one in made]}

    weights = None if encoder is None else dict(encoder.body.state_dict())
    cache = cache or Path(config.HF_DATASETS_CACHE) / "embshare"
    key = Hasher.hash([TRANSFORM, size, [_stamp(image) for image in images], weights])
    file = cache / f"{key}.arrow"

    try:
        cache.mkdir(parents=True, exist_ok=True)
        try:
            Dataset.from_file(str(file))
        except (OSError, ArrowInvalid):  # it is not there, or was cut off
            file.unlink(missing_ok=True)
        rows = Dataset.from_dict({"number": list(range(len(images)))}).map(
            work,
            batched=True,
            batch_size=AT_ONCE,
            remove_columns="number",
            features=Features({"raw": Value("binary")}),
            cache_file_name=str(file),
            load_from_cache_file=True,
            new_fingerprint=key,
            desc="Decoding images",
        )
    except OSError as error:
        raise DataError(
            cache,
            needs="be a folder for decoded images and features",
            has=f"cannot be written ({error})",
            hint="Name another with `cache`.",
        ) from error
    shape = (size, size, 3) if encoder is None else (encoder.places, encoder.features)
    return ModelInputs(rows, shape, "uint8" if encoder is None else "float16")


def _stamp(image: CaptionedImage) -> tuple[str, int, int, int]:
    """Path, size and both times of an image file, which tell that it is as it was."""
    assert image.path is not None, "drawn images have no file"
    try:
        found = image.path.stat()
    except OSError:  # `decode` says what is wrong
        return str(image.path), 0, 0, 0
    return str(image.path.absolute()), found.st_size, found.st_mtime_ns, found.st_ctime_ns


@torch.inference_mode()
def encode_pixels(encoder: ImageEncoder, pixels: Pixels) -> NDArray[np.float16]:
    """Pixels ``[N, S, S, 3]`` to features ``[N, G, C]``; a GPU helps where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder.eval().to(device)
    parts = [
        encoder(to_tensor(pixels[begin : begin + AT_ONCE]).to(device)).half().cpu()
        for begin in range(0, len(pixels), AT_ONCE)
    ]
    encoder.to("cpu")
    found: NDArray[np.float16] = torch.cat(parts).numpy()
    return found


def to_tensor(pixels: Pixels) -> Tensor:
    """``[N, S, S, 3]`` as arrays have it to ``[N, 3, S, S]`` as convolutions have it; a copy."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).copy())
