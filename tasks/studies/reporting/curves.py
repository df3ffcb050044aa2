"""Learning curves of rows: training loss by step, over the seeds of each, in few points."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeAlias

from embshare.tasks.runs.folder import RunFolder

__all__ = ["Curve", "mean_curve", "read_curve", "thinned"]

Curve: TypeAlias = list[tuple[int, float]]
"""Steps, rising, and the loss at each."""
POINTS: Final = 120


def read_curve(run: Path) -> Curve:
    """Read the training losses of a run's folder; empty where it has none.

    Steps at which the loss was not finite are left out.
    """
    path = RunFolder(run).curve
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    points = {
        point["step"]: point["loss"]
        for point in (found if isinstance(found, list) else [])
        if isinstance(point, Mapping) and isinstance(point.get("step"), int)
    }
    return sorted(
        (step, float(loss))
        for step, loss in points.items()
        if isinstance(loss, int | float) and math.isfinite(loss)
    )


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Average curves at the steps that all of them have."""
    found = [dict(curve) for curve in curves if curve]
    if not found:
        return []
    steps = set(found[0]).intersection(*found[1:])
    return [(step, sum(curve[step] for curve in found) / len(found)) for step in sorted(steps)]


def thinned(curve: Curve, most: int = POINTS) -> Curve:
    """Average neighbouring points, so that at most ``most`` are left; the first and last stay.

    Args:
        curve: The curve.
        most: At least three.
    """
    if len(curve) <= most:
        return list(curve)
    inner, parts = curve[1:-1], most - 2
    bounds = [len(inner) * part // parts for part in range(parts + 1)]
    blocks = [inner[a:b] for a, b in pairwise(bounds)]
    means = [
        (block[len(block) // 2][0], sum(loss for _, loss in block) / len(block)) for block in blocks
    ]
    return [curve[0], *means, curve[-1]]
