"""A report as a plot: stored parameters against the metric, one point for each row.

matplotlib, of the extra ``plot``, is imported where a plot is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from embshare.tasks.studies.report import Row, StudyReport
from embshare.tasks.task import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "colours_of", "draw_pareto", "pareto_front", "shown"]

# Colours of Okabe and Ito, which all kinds of colour vision can tell apart.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS: Final = ("s", "^", "o", "D", "v", "P", "X", "*")
LABELS: Final[Mapping[str, str]] = MappingProxyType(
    {"lstm": "LSTM", "conv": "convolution", "eps": "EPS", "veps": "VEPS"}
)
GREY: Final = "#555555"


def shown(label: str) -> str:
    """A label of an axis as people write it."""
    return LABELS.get(label, label)


def colours_of(rows: Sequence[Row]) -> dict[str, str]:
    """Label on the first axis -> colour."""
    return dict(zip(dict.fromkeys(row.first for row in rows), cycle(COLOURS), strict=False))


def _rest(row: Row) -> str:
    """The labels on all further axes, which a marker shows."""
    return ", ".join(map(shown, row.rest))


def _markers(rows: Sequence[Row]) -> dict[str, str]:
    return dict(zip(dict.fromkeys(map(_rest, rows)), cycle(MARKERS), strict=False))


def pareto_front(points: list[tuple[float, float]], *, lower: bool) -> list[tuple[float, float]]:
    """The points that no other one beats in both numbers, by rising size.

    Args:
        points: Size, of which less is better, and metric; those that diverged are on no front.
        lower: Less of the metric is better too.
    """
    sign = 1 if lower else -1
    front: list[tuple[float, float]] = []
    finite = (point for point in points if math.isfinite(point[1]))
    for size, value in sorted(finite, key=lambda point: (point[0], sign * point[1])):
        if not front or sign * value < sign * front[-1][1]:
            front.append((size, value))
    return front


def draw_pareto(report: StudyReport, task: str, target: Path | BytesIO) -> None:
    """Draw one task's rows: to a file, whose suffix is the format, or into memory as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metric, rows = report.metric(task), list(report.rows(task))
    figure = Figure(figsize=(7.2, 4.6), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours, markers = colours_of(rows), _markers(rows)
    _draw_front(axes, rows, metric)
    for row in rows:
        _draw_point(axes, row, colours[row.first], markers[_rest(row)])
    for label, colour in colours.items():
        _draw_path(axes, [row for row in rows if row.first == label], colour)
    _label(axes, report, task, metric, rows)
    figure.savefig(target)


def _draw_front(axes: Axes, rows: list[Row], metric: Metric) -> None:
    """The best metric at each number of parameters, as steps."""
    points = [(float(row.stored), row.metric.mean) for row in rows]
    front = pareto_front(points, lower=metric.better == "lower")
    axes.step(
        [size for size, _ in front],
        [value for _, value in front],
        where="post",
        color="#BBBBBB",
        linewidth=5,
        alpha=0.5,
        zorder=1,
    )


def _draw_path(axes: Axes, rows: list[Row], colour: str) -> None:
    """A thin line through the rows of one label on the first axis, by rising size."""
    mine = sorted(rows, key=lambda row: row.stored)
    axes.plot(
        [row.stored for row in mine],
        [row.metric.mean for row in mine],
        color=colour,
        linewidth=1,
        linestyle=(0, (4, 3)),
        alpha=0.6,
        zorder=2,
    )


def _draw_point(axes: Axes, row: Row, colour: str, marker: str) -> None:
    axes.errorbar(
        row.stored,
        row.metric.mean,
        yerr=row.metric.deviation,
        color=colour,
        marker=marker,
        markersize=9,
        markeredgecolor="white",
        elinewidth=1.2,
        capsize=2.5,
        linestyle="none",
        zorder=3,
    )


def _label(axes: Axes, report: StudyReport, task: str, metric: Metric, rows: list[Row]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    sizes = [row.stored for row in rows]
    narrow = max(sizes) < 5 * min(sizes)
    axes.xaxis.set_major_locator(LogLocator(subs=range(1, 10) if narrow else (1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(min(sizes) / 1.15, max(sizes) * 1.15)
    axes.set_xlabel("stored parameters, table included")
    axes.set_ylabel(f"{metric.label} ({metric.better} is better)")
    seeds = len(report.seeds)
    spread = f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "one seed"
    axes.set_title(f"{task.replace('_', ' ')}, {spread}", fontsize=10, loc="left")
    axes.grid(which="major", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [
        *(
            Line2D([], [], color=colour, linewidth=3, label=shown(label))
            for label, colour in colours_of(rows).items()
        ),
        *(
            Line2D([], [], color=GREY, marker=marker, linestyle="none", label=label)
            for label, marker in _markers(rows).items()
            if label
        ),
        Line2D([], [], color="#BBBBBB", linewidth=5, alpha=0.5, label="best for its size"),
    ]
    axes.legend(  # beside the axes, where no point can be
        handles=handles,
        fontsize=8,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        borderaxespad=0,
    )
