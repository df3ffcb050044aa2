"""Word vectors from a local text file, and each word's neighbours.

Letters: W words, D dimensions.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Self, final

import torch
from torch import Tensor

from embshare.errors import InvalidValueError

__all__ = ["WordVectors"]

LIMIT = 100_000


@final
class WordVectors:
    """Words and their directions.

    Args:
        words: ``W`` different ones.
        vectors: ``[W, D]``; a vector of zeros is nobody's neighbour.
    """

    def __init__(self, words: list[str], vectors: Tensor) -> None:
        self.words = words
        self.place = {word: index for index, word in enumerate(words)}
        length = vectors.norm(dim=1, keepdim=True)
        self.directions = torch.where(length > 0, vectors / length.clamp(min=1e-30), torch.nan)
        """``[W, D]``, of length 1."""

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, limit: int = LIMIT) -> Self:
        """Read a file as GloVe's: in each line a word and its numbers, divided by spaces.

        Args:
            path: of a local file; nothing is fetched.
            limit: lines that are read: the most frequent words stand first.
        Raises:
            InvalidValueError: no such file, no line in it, or a line that is not a word and as many
                numbers as the first has.
        """
        file = Path(path)
        if not file.is_file():
            raise _unreadable(file, "it is not there: name a local file in GloVe's text layout")
        words: dict[str, list[float]] = {}
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if number > limit:
                    break
                word, *numbers = line.rstrip().split(" ")
                words[word] = _parse(file, number, numbers)
                if len(words[word]) != len(next(iter(words.values()))):
                    raise _unreadable(file, f"line {number:,} has {len(numbers)} numbers")
        if not words:
            raise _unreadable(file, "it has no line")
        vectors = torch.tensor(list(words.values()), dtype=torch.float64)
        if "<unk>" in words:
            vectors[list(words).index("<unk>")] = 0  # it stands for no word
        return cls(list(words), vectors)

    def nearest(self, word: str, count: int) -> list[str]:
        """The words of the smallest angle to a word, nearest first; none where it has no vector."""
        if word not in self.place:
            return []
        index = self.place[word]
        cosines = self.directions @ self.directions[index]
        cosines[index] = torch.nan
        near = torch.argsort(cosines.nan_to_num(nan=-math.inf), descending=True, stable=True)
        return [self.words[i] for i in near[:count].tolist() if not cosines[i].isnan()]


def _parse(file: Path, number: int, numbers: list[str]) -> list[float]:
    try:
        if numbers:
            return [float(part) for part in numbers]
    except ValueError:
        pass
    raise _unreadable(file, f"line {number:,} is not a word and numbers, divided by spaces")


def _unreadable(file: Path, finding: str) -> InvalidValueError:
    return InvalidValueError(what=f"the file of word vectors `{file}`", faults=[finding])
