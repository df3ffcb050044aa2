"""A report as figures: sizes against the metric, and learning curves, readable in grey.

matplotlib, of the extra ``plot``, is imported where a figure is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from embshare.tasks.studies.report import Row
from embshare.tasks.studies.reporting.analysis import MEASURES, Analysis, Measure
from embshare.tasks.studies.reporting.curves import Curve, mean_curve, read_curve, thinned
from embshare.tasks.studies.reporting.formatting import shown
from embshare.tasks.studies.reporting.fronts import pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "MARKERS",
    "Style",
    "draw_curves",
    "draw_front",
    "method_of",
    "styles_of",
    "write_figure",
]

# Colours of Okabe and Ito, which all kinds of colour vision can tell apart, from dark to light:
# in grey the first four differ by themselves, and all by their markers.
COLOURS: Final = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
LINES: Final[tuple[Any, ...]] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1)))
LEGEND: Final = 14  # entries of a legend
MANY: Final = 300  # points from which on they are drawn small, without intervals, as an image
CURVES: Final = 12  # lines that can be told apart
SHARING, PLAIN, GREY = "#111111", "#777777", "#555555"

Style = tuple[str, str]
"""Colour and marker."""


def styles_of(analysis: Analysis) -> dict[str, Style]:
    """Label on the axis of methods -> colour and marker; no two of the first 77 are the same."""
    labels = dict.fromkeys(method_of(analysis, row) for row in analysis.rows)
    return dict(zip(labels, zip(cycle(COLOURS), cycle(MARKERS), strict=False), strict=False))


def method_of(analysis: Analysis, row: Row) -> str:
    """What a row's marker shows."""
    return row.labels[analysis.method_axis] if analysis.method_axis else ""


def draw_front(analysis: Analysis, measure: str = "bytes") -> Figure:
    """Draw a size against the metric: a marker for each row, and the fronts.

    The solid line is the best metric of all models up to each size, the dashed one that of models
    of ordinary layers, dense or tied; where they part, sharing wins. An axis besides the methods'
    with a few labels has a panel for each.
    """
    from matplotlib.figure import Figure

    panels = _panels(analysis)
    columns = len(panels) if len(panels) <= 3 else 2
    lines = math.ceil(len(panels) / columns)
    size = (7.2 if columns < 3 else 9.2, 1.8 + (2.9 if columns == 1 else 2.5) * lines)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    styles = styles_of(analysis)
    for axes, (title, rows) in zip(grid, panels.items(), strict=True):
        _draw_panel(axes, analysis, rows, MEASURES[measure], styles)
        axes.set_title(title, fontsize=10, loc="left")
    _name_axes(figure, grid, columns, analysis, MEASURES[measure])
    figure.legend(
        handles=_legend(analysis, styles),
        fontsize=8,
        frameon=False,
        loc="outside lower center",
        ncols=3 if columns < 3 else 4,
    )
    return figure


def _panels(analysis: Analysis) -> dict[str, list[Row]]:
    axis = analysis.panel_axis
    if axis is None:
        return {analysis.title: list(analysis.rows)}
    found: dict[str, list[Row]] = {}
    for row in analysis.rows:
        found.setdefault(f"{axis.replace('_', ' ')}: {shown(row.labels[axis])}", []).append(row)
    return found


def _draw_panel(
    axes: Axes,
    analysis: Analysis,
    rows: Sequence[Row],
    measure: Measure,
    styles: Mapping[str, Style],
) -> None:
    everything = _front(rows, measure, lower=analysis.lower)
    plain = _front([row for row in rows if not row.shares], measure, lower=analysis.lower)
    ends = max((measure.of(row) for row in rows), default=1.0) * 1.4
    if _both(analysis):
        _draw_steps(axes, plain, ends, color=PLAIN, linestyle=(0, (4, 3)), linewidth=1.3)
        _draw_gap(axes, everything, plain, ends)
    _draw_steps(axes, everything, ends, color=SHARING, linestyle="-", linewidth=1.3)
    many = len(analysis.rows) > MANY
    for label, (colour, marker) in styles.items():
        mine = [row for row in rows if method_of(analysis, row) == label]
        errors = [row.metric.half_width or math.nan for row in mine]
        spread = not many and any(map(math.isfinite, errors))
        axes.errorbar(
            [measure.of(row) for row in mine],
            [row.metric.mean if math.isfinite(row.metric.mean) else math.nan for row in mine],
            yerr=[0.0 if math.isnan(e) else e for e in errors] if spread else None,
            color=colour,
            marker=marker,
            markersize=3 if many else 8,
            markeredgecolor="white",
            markeredgewidth=0.3 if many else 0.8,
            elinewidth=1,
            capsize=2.5,
            linestyle="none",
            zorder=3,
            rasterized=many,
        )
    _limit(axes, analysis, rows)


def _both(analysis: Analysis) -> bool:
    """Whether there are models that share and others that do not."""
    return {row.shares for row in analysis.rows} == {True, False}


def _front(rows: Sequence[Row], measure: Measure, *, lower: bool) -> list[tuple[float, float]]:
    points = [(measure.of(row), row.metric.mean) for row in rows]
    return [points[index] for index in pareto_front(points, lower=lower)]


def _draw_steps(
    axes: Axes, front: Sequence[tuple[float, float]], ends: float, **style: Any
) -> None:
    """The best metric up to each size."""
    if front:
        sizes = [*(size for size, _ in front), ends]
        values = [*(value for _, value in front), front[-1][1]]
        axes.step(sizes, values, where="post", zorder=2, **style)


def _draw_gap(
    axes: Axes,
    everything: Sequence[tuple[float, float]],
    plain: Sequence[tuple[float, float]],
    ends: float,
) -> None:
    """Shade what sharing gains: between both fronts, and where nothing else is as small."""
    sizes = sorted({*(s for s, _ in everything), *(s for s, _ in plain), ends})
    best, other = (_up_to(sizes, front) for front in (everything, plain))
    axes.fill_between(sizes, best, other, step="post", color="#999999", alpha=0.25, lw=0, zorder=1)
    if everything and plain and everything[0][0] < plain[0][0]:
        axes.axvspan(everything[0][0], plain[0][0], color="#999999", alpha=0.12, lw=0, zorder=0)


def _up_to(sizes: Sequence[float], front: Sequence[tuple[float, float]]) -> list[float]:
    """The best metric up to each of some rising sizes; NaN where there is none as small."""
    found, value, ahead = [], math.nan, list(front)
    for size in sizes:
        while ahead and ahead[0][0] <= size:
            value = ahead.pop(0)[1]
        found.append(value)
    return found


def _limit(axes: Axes, analysis: Analysis, rows: Sequence[Row]) -> None:
    """Leave a few bad rows outside of the axes: half of all are within a third of the height."""
    found = [row.metric.mean for row in analysis.rows if math.isfinite(row.metric.mean)]
    if len(found) < 4:
        return
    found = sorted(found, reverse=not analysis.lower)
    best, middle, worst = found[0], found[len(found) // 2], found[-1]
    far = best + 4 * (middle - best)
    if middle != best and abs(worst - best) > abs(far - best):
        ends = (best - 0.4 * (middle - best), far)
        axes.set_ylim(*(ends if analysis.lower else reversed(ends)))
        mine = [abs(row.metric.mean - best) for row in rows if math.isfinite(row.metric.mean)]
        outside = sum(distance > abs(far - best) for distance in mine)
        axes.annotate(
            f"{outside} worse beyond the axis" * bool(outside),
            (0.99, 0.985 if analysis.lower else 0.015),
            xycoords="axes fraction",
            ha="right",
            va="top" if analysis.lower else "bottom",
            fontsize=7,
            color=GREY,
        )


def _name_axes(
    figure: Figure, grid: Any, columns: int, analysis: Analysis, measure: Measure
) -> None:
    from matplotlib.ticker import EngFormatter, FixedLocator, NullFormatter, NullLocator

    sizes = [measure.of(row) for row in analysis.rows if measure.of(row) > 0] or [1.0]
    low, high = min(sizes) / 1.2, max(sizes) * 1.25
    for axes in grid:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(EngFormatter(measure.unit, sep=" "))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(labelsize=8)
        axes.grid(which="major", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(low, high)
    metric = analysis.metric
    for axes in grid[-columns:]:  # the lowest
        axes.set_xlabel(measure.label, fontsize=9)
    figure.supylabel(f"{metric.label} ({metric.better} is better)", fontsize=9)


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between two sizes, as many as have room beside each other."""
    found: list[float] = []
    for steps in (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        tuple(n / 10 for n in range(10, 100)),
    ):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) > most:
            break
        found = ticks
    return found or ticks[:: 1 + len(ticks) // most]


def _legend(analysis: Analysis, styles: Mapping[str, Style]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=_short(shown(label)))
        for label, (colour, marker) in [*styles.items()][:LEGEND]
        if label
    ]
    if len(styles) > LEGEND:
        more = f"and {len(styles) - LEGEND} more"
        handles.append(Line2D([], [], linestyle="none", label=more))
    handles.append(Line2D([], [], color=SHARING, linewidth=1.3, label="best for its size"))
    if _both(analysis):
        handles += [
            Line2D(
                [],
                [],
                color=PLAIN,
                linewidth=1.3,
                linestyle=(0, (4, 3)),
                label="best ordinary layers",
            ),
            Patch(color="#999999", alpha=0.35, lw=0, label="sharing wins"),
            Patch(color="#999999", alpha=0.15, lw=0, label="only sharing is as small"),
        ]
    if analysis.seeds > 1 and len(analysis.rows) <= MANY:
        label = f"bars: 95 % interval, {analysis.seeds} seeds"
        handles.append(Line2D([], [], linestyle="none", label=label))
    return handles


def _short(label: str, most: int = 34) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def draw_curves(analysis: Analysis, folders: Mapping[str, Path]) -> Figure | None:
    """Draw the training loss of some rows over the steps, the mean over their seeds.

    Args:
        analysis: Of more than a dozen rows, baselines, the front and the best others are drawn.
        folders: Name of a trial -> folder of its run.
    Returns:
        ``None`` where no run has a curve.
    """
    from matplotlib.figure import Figure

    found: list[tuple[str, Curve]] = []
    for index in analysis.chosen(CURVES):
        row = analysis.rows[index]
        curve = mean_curve([read_curve(folders[t.name]) for t in row.trials if t.name in folders])
        if curve:
            found.append((analysis.name(row), thinned(curve)))
    if not found:
        return None
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(found):
        axes.plot(
            [step for step, _ in curve],
            [loss for _, loss in curve],
            color=COLOURS[number % len(COLOURS)],
            linestyle=LINES[number % len(LINES)],
            marker=MARKERS[number % len(MARKERS)],
            markevery=(number / len(found) / 5, 0.2),  # as a part of the line's length
            markersize=4.5,
            linewidth=1.2,
            label=_short(name),
        )
    every = [loss for _, curve in found for _, loss in curve]
    if min(every) > 0 and max(every) > 20 * min(every):
        axes.set_yscale("log")
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel("training loss", fontsize=9)
    axes.tick_params(labelsize=8)
    left = len(analysis.rows) - len(found)
    more = f", {len(found)} of {len(analysis.rows)} rows" if left else ""
    axes.set_title(f"{analysis.title}{more}", fontsize=10, loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return figure


def write_figure(figure: Figure, target: Path | BytesIO, kind: str) -> None:
    """Write a figure as ``svg`` or ``pdf``; the same figure gives the same bytes."""
    import matplotlib

    undated = {"Date": None} if kind == "svg" else {"CreationDate": None}
    with matplotlib.rc_context({"svg.hashsalt": "embshare", "svg.fonttype": "path"}):
        figure.savefig(target, format=kind, metadata=undated)
    figure.set_layout_engine("none")  # it is laid out: another format takes half the time
