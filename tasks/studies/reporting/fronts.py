"""Pareto fronts: what nothing beats in size and metric at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["pareto_front"]


def pareto_front(points: Sequence[tuple[float, float]], *, lower: bool) -> list[int]:
    """Find the points that no other one beats: none is as small and better, or smaller and as good.

    Args:
        points: Size, of which less is better, and metric; those that diverged are on no front. Of
            equal points the first is on it.
        lower: Less of the metric is better too.
    Returns:
        Indices of the points, by rising size.
    """
    sign = 1 if lower else -1
    finite = [index for index, point in enumerate(points) if all(map(math.isfinite, point))]
    front: list[int] = []
    best = math.inf
    for index in sorted(finite, key=lambda i: (points[i][0], sign * points[i][1])):
        if sign * points[index][1] < best:
            best = sign * points[index][1]
            front.append(index)
    return front
