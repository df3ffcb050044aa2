"""What a few seeds can say: intervals of a mean, paired differences, Holm's correction.

scipy, of the extra ``bench``, is imported where a distribution is asked for.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["LEVEL", "Comparison", "half_width", "holm", "paired"]

LEVEL: Final = 0.05
"""Significance level of all tests; intervals are of ``1 - LEVEL``."""
ROUNDING: Final = 1e-12  # values that differ by less, relative to the largest, are equal


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Differences of pairs that share their seed: the row's metric less the baseline's."""

    difference: float
    """Mean over the pairs; NaN without a pair."""
    pairs: int
    half_width: float | None = None
    """Half the width of the 95 % t-interval of `difference`; ``None`` where there is none."""
    p: float | None = None
    """Two-sided p-value of the paired t-test; ``None`` where there is none."""
    corrected: float | None = None
    """`p` after Holm's correction over all rows that are compared."""
    note: str = ""
    """Why there is no interval or no p-value, or which trials have no pair."""

    @property
    def significant(self) -> bool:
        """Whether the difference is significant at `LEVEL` after the correction."""
        return self.corrected is not None and self.corrected < LEVEL


def half_width(deviation: float, count: int) -> float:
    """Half the width of the 95 % t-interval of a mean.

    Args:
        deviation: Sample standard deviation (divided by ``count - 1``).
        count: Number of values, at least two.
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    quantile = float(stdtrit(count - 1, 1 - LEVEL / 2))
    return quantile * deviation / math.sqrt(count)


def paired(row: Mapping[str, float], baseline: Mapping[str, float]) -> Comparison:
    """Compare two rows by the trials of the same seed.

    Trials without a pair are left out and named. There is no t-test of one pair, of pairs of which
    one diverged, and of differences that are all equal.

    Args:
        row: Seed -> metric.
        baseline: The same of what it is compared with.
    """
    seeds = [seed for seed in row if seed in baseline]
    notes = []
    if alone := [s for s in (*row, *baseline) if s not in row or s not in baseline]:
        notes.append(f"no pair for seed {_listed(alone)}")
    differences = [row[seed] - baseline[seed] for seed in seeds]
    if not seeds:
        return Comparison(difference=math.nan, pairs=0, note="no seed in common with the baseline")
    bad = [s for s in seeds if not (math.isfinite(row[s]) and math.isfinite(baseline[s]))]
    found = Comparison(difference=sum(differences) / len(seeds), pairs=len(seeds))
    if bad:
        notes.append(f"diverged with seed {_listed(bad)}")
    elif len(seeds) == 1:
        notes.append("one pair: no interval and no test")
    elif _equal(differences, (*row.values(), *baseline.values())):
        notes.append(f"all {len(seeds)} differences are equal: no test")
    else:
        found = _tested(differences)
    return Comparison(**{**vars(found), "note": "; ".join(notes)})


def _tested(differences: Sequence[float]) -> Comparison:
    from scipy.special import stdtr

    count, mean = len(differences), statistics.fmean(differences)
    deviation = statistics.stdev(differences)
    t = mean * math.sqrt(count) / deviation
    return Comparison(
        difference=mean,
        pairs=count,
        half_width=half_width(deviation, count),
        p=float(2 * stdtr(count - 1, -abs(t))),
    )


def _equal(differences: Sequence[float], values: Sequence[float]) -> bool:
    """Whether differences are the same number but for the rounding of what they are made of."""
    most = max(abs(value) for value in values if math.isfinite(value))
    return max(differences) - min(differences) <= ROUNDING * most


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979): p-values that bound the chance of any false one.

    Args:
        p_values: One for each test of a family.
    Returns:
        Corrected p-values in the same order, at most 1.
    """
    count, largest = len(p_values), 0.0
    corrected = [0.0] * count
    for rank, index in enumerate(sorted(range(count), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
