"""Plot the training loss over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

__all__ = ["draw_curve"]


def draw_curve(points: Sequence[Mapping[str, float]], path: Path, *, title: str) -> None:
    """Plot ``loss`` over ``step``; without matplotlib or points, nothing is plotted."""
    if not points or find_spec("matplotlib") is None:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([p["step"] for p in points], [p["loss"] for p in points], linewidth=1.5)
    axes.set(xlabel="step", ylabel="training loss (nats)", title=title.replace("_", " "))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
