"""All pictures of a split as one array: pixels, or the features of a frozen encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embshare.tasks.captioning.dataset import Picture
from embshare.tasks.captioning.pictures.decoding import Pixels, decode, in_threads
from embshare.tasks.captioning.pictures.digests import digests_of
from embshare.tasks.captioning.pictures.encoders import ImageEncoder, weights_digest
from embshare.tasks.captioning.pictures.store import key_of, stored

__all__ = ["encode_all", "encode_pixels", "features_of", "pixels_of", "to_tensor"]

TRANSFORM: Final = "square, bilinear, draft, 2"
"""How `decode` makes pixels; a change there changes this too."""
AT_ONCE: Final = 32


def pixels_of(pictures: Sequence[Picture], size: int, folder: Path) -> Pixels:
    """Every picture decoded, ``[N, size, size, 3]``, from disk where that was done before.

    Raises:
        PictureError: one cannot be decoded; with file and line.
        CacheFolderError: the folder cannot be written.
    """

    def fill(array: NDArray[Any]) -> None:
        for index, pixels in enumerate(_decoded(pictures, size)):
            array[index] = pixels

    key = key_of(["pixels", TRANSFORM, str(size), *digests_of(pictures, folder)])
    shape = (len(pictures), size, size, 3)
    return stored(folder, key, shape=shape, dtype=np.uint8, fill=fill)


def features_of(
    pictures: Sequence[Picture], size: int, encoder: ImageEncoder, folder: Path
) -> NDArray[np.float16]:
    """What a frozen encoder sees in every picture, ``[N, G, C]``; errors as in `pixels_of`.

    The key is of the pictures' bytes, the encoder's weights and the transform, so that a
    change of any gives other features.
    """

    def fill(array: NDArray[Any]) -> None:
        decoded, begin = _decoded(pictures, size), 0
        while some := list(islice(decoded, AT_ONCE)):
            array[begin : begin + len(some)] = encode_pixels(encoder, np.stack(some))
            begin += len(some)

    weights = weights_digest(encoder)
    digests = digests_of(pictures, folder)
    key = key_of(["features", TRANSFORM, str(size), weights, *digests])
    shape = (len(pictures), encoder.places, encoder.features)
    return stored(folder, key, shape=shape, dtype=np.float16, fill=fill)


@torch.inference_mode()
def encode_pixels(encoder: ImageEncoder, pixels: Pixels) -> NDArray[np.float16]:
    """Pixels ``[N, S, S, 3]`` to features ``[N, G, C]``; a GPU helps where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder.eval().to(device)
    found: NDArray[np.float16] = encoder(to_tensor(pixels).to(device)).half().cpu().numpy()
    encoder.to("cpu")
    return found


def encode_all(encoder: ImageEncoder, pixels: Pixels) -> NDArray[np.float16]:
    """As `encode_pixels`, of any number, some at a time."""
    begins = range(0, len(pixels), AT_ONCE)
    return np.concatenate([encode_pixels(encoder, pixels[b : b + AT_ONCE]) for b in begins])


def to_tensor(pixels: Pixels) -> Tensor:
    """``[N, S, S, 3]`` as arrays have it to ``[N, 3, S, S]`` as convolutions have it; a copy."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).copy())


def _decoded(pictures: Sequence[Picture], size: int) -> Iterator[Pixels]:
    def one(picture: Picture) -> Pixels:
        assert picture.path is not None, "drawn pictures are not decoded"
        return decode(picture.path, size, picture.place)

    return in_threads(one, pictures)
