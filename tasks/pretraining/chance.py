"""Chance without a state: a number that depends on what it is for, and on nothing else.

Which symbols of a row are masked must not depend on the batch that the row is in, on the process
that reads it, or on whether the run was killed and taken up again. So no generator is advanced;
each number is a hash of the seed, the row, what it decides, and the place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bools", "Dice", "Floats", "Integers"]

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Hashes: TypeAlias = NDArray[np.uint64]

STEP: Final = np.uint64(0x9E3779B97F4A7C15)
FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
SECOND: Final = np.uint64(0x94D049BB133111EB)


@final
@dataclass(frozen=True)
class Dice:
    """Chance for some rows.

    Args:
        seed: of the run.
        keys: ``[B]``, what tells the rows apart: their numbers, and how often they were read.
    """

    seed: int
    keys: Integers

    def uniform(self, use: int, count: int) -> Floats:
        """``[B, count]`` numbers from 0 up to and without 1.

        Args:
            use: What they decide: other uses have other numbers.
            count: How many for each row.
        """
        seed = np.array([self.seed], dtype=np.int64).view(np.uint64)
        rows = _mix(_mix(seed) + self.keys.astype(np.int64).view(np.uint64) * STEP)
        salt = np.array([use + 1], dtype=np.uint64) * SECOND  # arrays wrap around in silence
        uses = _mix(rows + salt)
        places = np.arange(1, count + 1, dtype=np.uint64) * STEP
        return (_mix(uses[:, None] + places) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: Hashes) -> Hashes:
    """Spread every bit over all 64: the last part of splitmix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * FIRST
    x = (x ^ (x >> np.uint64(27))) * SECOND
    return x ^ (x >> np.uint64(31))
