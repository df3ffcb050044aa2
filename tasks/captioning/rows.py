"""Pictures and captions as rows and batches for a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from embshare.tasks.captioning.pictures.seen import to_tensor
from embshare.tasks.captioning.vocabulary import EOS
from embshare.tasks.task import Batch

__all__ = ["PICTURE", "CaptionRows", "Sight", "collate_rows"]

IGNORED: Final = -100
PICTURE: Final = "picture"
"""The key of pictures' numbers in a batch, for an objective that needs references."""


@dataclass(frozen=True)
class Sight:
    """What a model sees of each picture of a split."""

    array: NDArray[Any]
    """Pixels ``[N, S, S, 3]`` of uint8, or features ``[N, G, C]`` of float16."""

    def __len__(self) -> int:
        return len(self.array)

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process maps the file for itself, instead of getting a copy of it."""
        if isinstance(self.array, np.memmap) and self.array.filename is not None:
            return _mapped, (str(self.array.filename),)
        return Sight, (self.array,)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Some pictures under the name that `Captioner.forward` has for them."""
        some = self.array[list(numbers)]
        if self.array.dtype == np.uint8:
            return {"pixels": to_tensor(some)}
        return {"features": torch.from_numpy(np.array(some))}

    def batches(self, size: int) -> Iterator[Batch]:
        """All pictures in order."""
        for begin in range(0, len(self), size):
            yield self.batch(range(begin, min(begin + size, len(self))))


def _mapped(path: str) -> Sight:
    return Sight(np.load(path, mmap_mode="r", allow_pickle=False))


@final
class CaptionRows(Dataset[tuple[int, list[int]]]):
    """One row for each caption: its picture's number, and its symbols with the end."""

    def __init__(self, captions: Sequence[Sequence[Sequence[int]]], *, most_words: int) -> None:
        self._rows = [
            (number, [*caption[:most_words], EOS])
            for number, several in enumerate(captions)
            for caption in several
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[int, list[int]]:
        return self._rows[index]


def collate_rows(rows: Sequence[tuple[int, list[int]]], sight: Sight, *, numbered: bool) -> Batch:
    """Rows as keyword arguments of `Captioner.forward`.

    Args:
        rows: of `CaptionRows`.
        sight: of their pictures.
        numbered: also give pictures' numbers ``[B]``, for an objective that takes them out.
    """
    batch = sight.batch([number for number, _ in rows])
    batch["labels"] = pad_labels([symbols for _, symbols in rows])
    if numbered:
        batch[PICTURE] = torch.tensor([number for number, _ in rows])
    return batch


def pad_labels(rows: Sequence[Sequence[int]]) -> Tensor:
    """Symbols as ``[B, T]`` with -100 behind."""
    longest = max(1, *(len(row) for row in rows), 1)
    labels = torch.full((len(rows), longest), IGNORED)
    for index, row in enumerate(rows):
        labels[index, : len(row)] = torch.tensor(row)
    return labels
