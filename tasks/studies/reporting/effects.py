"""What each axis of a grid does to the metric: main effects, and interactions of two axes.

An analysis of variance by hand, of the part of a grid that is full: there, means over all else are
fair comparisons, and shares of the variance add up to one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, TypeAlias

__all__ = ["SEED", "Effects", "Interaction", "MainEffect", "Point", "balanced", "effects_of"]

Point: TypeAlias = tuple[Mapping[str, str], float]
"""Labels by axis, and the metric."""
SEED: Final = "seed"
MOST_LABELS: Final = 1000
"""Labels on all axes together beyond which no grid is looked for: values were drawn at random."""
ROUNDING: Final = 1e-12  # values that differ by less, relative to the largest, are equal


@dataclass(frozen=True, kw_only=True)
class MainEffect:
    """One axis: the mean of the metric for each of its labels, over all else."""

    axis: str
    means: Mapping[str, float]
    share: float | None
    """Part of the variance that it explains; ``None`` where nothing varies."""

    @property
    def spread(self) -> float:
        """From the smallest mean to the largest."""
        return max(self.means.values()) - min(self.means.values())


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """Two axes: how far they are from adding up."""

    axes: tuple[str, str]
    largest: float
    """The mean at two labels less what both main effects say, where that is largest."""
    at: tuple[str, str]
    share: float | None
    """Part of the variance that it explains beyond both main effects."""
    relative: float | None
    """`largest` as a part of the larger of the two axes' main effects, both taken as the largest
    distance from the mean; ``None`` where neither axis does anything."""


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What the axes of a grid do, over its balanced part."""

    mean: float
    main: tuple[MainEffect, ...]
    interactions: tuple[Interaction, ...]
    """Of all pairs of axes but the seed, by falling share."""
    rest: float | None
    """Part of the variance that is left: of three axes and more together, and noise."""
    used: int
    """Number of trials in the balanced part."""
    given: int
    left_out: tuple[str, ...]
    """Labels that are not in it, as ``axis label``, for trials that are missing or diverged."""


def balanced(points: Sequence[Mapping[str, str]]) -> tuple[list[int], list[tuple[str, str]]]:
    """Find a part of a grid that has a point for every combination of its labels.

    The label with the smallest share of its combinations goes first, until none lacks any: not
    always the largest such part, but all of a full grid.

    Args:
        points: Labels by axis; no two the same, and all of the same axes.
    Returns:
        Indices of the points that are in it, and what was left out, as axis and label.
    """
    import numpy as np

    if not points:
        return [], []
    axes = list(points[0])
    names, columns = [], []
    for axis in axes:
        labels, codes = np.unique([point[axis] for point in points], return_inverse=True)
        names.append(labels)
        columns.append(codes)
    kept, gone = np.arange(len(points)), list[tuple[str, str]]()
    while len(kept):
        counts = [
            np.bincount(codes[kept], minlength=len(names[a])) for a, codes in enumerate(columns)
        ]
        sizes = [int((count > 0).sum()) for count in counts]
        full = math.prod(sizes)
        if len(kept) == full:
            break
        worst, label = min(
            ((a, int(n)) for a, count in enumerate(counts) for n in np.flatnonzero(count)),
            key=lambda place: (
                counts[place[0]][place[1]] * sizes[place[0]],  # share of its combinations
                counts[place[0]][place[1]],
                -place[0],
            ),
        )
        gone.append((axes[worst], str(names[worst][label])))
        kept = kept[columns[worst][kept] != label]
    return kept.tolist(), gone


def effects_of(points: Sequence[Point]) -> Effects | None:
    """Analyse the balanced part of a grid.

    Axes with one label in that part are left out. Values of the same labels are averaged.

    Args:
        points: Trials with the same axes, `SEED` among them if there are several; those whose
            metric is not finite count as missing.
    Returns:
        ``None`` where no axis has two labels in the balanced part, or there are more than
        `MOST_LABELS` labels.
    """
    import numpy as np

    cells: dict[tuple[str, ...], list[float]] = {}
    for labels, value in points:
        if math.isfinite(value):
            cells.setdefault(tuple(labels.values()), []).append(value)
    axes = list(points[0][0]) if points else []
    grid = [dict(zip(axes, key, strict=True)) for key in cells]
    if sum(len({point[axis] for point in grid}) for axis in axes) > MOST_LABELS:
        return None
    kept, gone = balanced(grid)
    every = {axis: list(dict.fromkeys(grid[index][axis] for index in kept)) for axis in axes}
    varied = {axis: found for axis, found in every.items() if len(found) > 1}
    if not varied:
        return None
    means = [sum(found) / len(found) for found in cells.values()]
    values = np.empty([len(found) for found in varied.values()])
    for index in kept:
        place = tuple(found.index(grid[index][axis]) for axis, found in varied.items())
        values[place] = means[index]
    analysis = _Analysis(list(varied), list(varied.values()), values)
    main = tuple(analysis.main(index) for index in range(len(varied)))
    pairs = combinations([n for n, axis in enumerate(varied) if axis != SEED], 2)
    found = sorted((analysis.pair(*pair) for pair in pairs), key=lambda i: -(i.share or 0))
    shares = [*(effect.share for effect in main), *(pair.share for pair in found)]
    return Effects(
        mean=float(values.mean()),
        main=main,
        interactions=tuple(found),
        rest=None if None in shares else max(0.0, 1 - sum(share or 0 for share in shares)),
        used=len(kept),
        given=len(points),
        left_out=tuple(f"{axis} {label}" for axis, label in gone),
    )


class _Analysis:
    """Sums of squares of a full grid, one dimension for each axis."""

    def __init__(self, axes: list[str], labels: list[list[str]], values: Any) -> None:
        self.axes, self.labels, self.values = axes, labels, values
        self.off = values - values.mean()
        self.least = float(ROUNDING * abs(values).max())
        self.total = float((self.off**2).sum()) if abs(self.off).max() > self.least else 0.0

    def effect(self, *kept: int) -> Any:
        """Mean distance from the grand mean over all axes but some."""
        return self.off.mean(axis=tuple(n for n in range(self.off.ndim) if n not in kept))

    def share(self, effect: Any) -> float | None:
        if self.total == 0:
            return None
        explained: float = float((effect**2).sum()) * self.values.size / effect.size
        return explained / self.total

    def main(self, index: int) -> MainEffect:
        effect = self.effect(index)
        means = (effect + self.values.mean()).tolist()
        return MainEffect(
            axis=self.axes[index],
            means=dict(zip(self.labels[index], means, strict=True)),
            share=self.share(effect),
        )

    def pair(self, first: int, second: int) -> Interaction:
        one, other = self.effect(first), self.effect(second)
        beyond = self.effect(first, second) - one[:, None] - other[None, :]
        where = divmod(int(abs(beyond).argmax()), len(other))
        largest, beside = float(beyond[where]), float(max(abs(one).max(), abs(other).max()))
        return Interaction(
            axes=(self.axes[first], self.axes[second]),
            largest=largest,
            at=(self.labels[first][where[0]], self.labels[second][where[1]]),
            share=self.share(beyond),
            relative=abs(largest) / beside if beside > self.least else None,
        )
