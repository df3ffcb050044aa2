"""A counter-based RNG: random numbers that depend on seed, row, use and position alone.

Which tokens of a row are masked must not depend on the batch that the row is in, on the worker that
reads it, or on whether the run was resumed. So no generator is advanced: each number is a hash of
what it is for. numpy's counter-based ``Philox`` would need one generator for each row and use; here
all rows of a batch are hashed at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bools", "CounterRNG", "Floats", "Integers"]

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Hashes: TypeAlias = NDArray[np.uint64]

STEP: Final = np.uint64(0x9E3779B97F4A7C15)
FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
SECOND: Final = np.uint64(0x94D049BB133111EB)


@final
@dataclass(frozen=True)
class CounterRNG:
    """Random numbers for the rows of a batch.

    Args:
        seed: seed of the run.
        keys: ``[B]``, different numbers for different rows and epochs.
    """

    seed: int
    keys: Integers

    def uniform(self, use: int, count: int) -> Floats:
        """``[B, count]`` numbers in [0, 1).

        Args:
            use: number of what they decide; other uses have other numbers.
            count: numbers for each row.
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
