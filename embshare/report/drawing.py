"""Figure of a plan: the columns of each source, or blocks that are parameters side by side,
coloured by the layers that read them.

matplotlib, of the extra ``plot``, is imported where a figure is drawn. Lengths are in inches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from embshare._tables import plural
from embshare.config import ShareConfig
from embshare.errors import CheckpointError, InvalidValueError, MissingPackageError
from embshare.plan.slots import Slot, Source
from embshare.plan.values import SharePlan
from embshare.report.legend import (
    DROPPED,
    GREY,
    MARGIN,
    UNUSED,
    WIDTH,
    Role,
    draw_legend,
    legend_height,
    roles_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "check_format", "draw_plan", "make_figure", "write_figure"]

FORMATS: Final = (".pdf", ".png", ".svg")
"""Suffixes of a figure's file."""

STRIP, GAP, TITLE = 0.85, 0.34, 0.62
SLOTS_IN_A_STRIP, MOST_STRIPS = 16, 14
NARROW = 0.3
CHARACTER: Final = 0.068
"""Width of one at 8 points."""


def draw_plan(plan: SharePlan, path: str | Path) -> None:
    """Draw a plan: what `make_figure` makes, in the format that the suffix names.

    The same plan gives the same bytes.

    Raises:
        MissingPackageError: matplotlib is not installed.
        InvalidValueError: the suffix is none of `FORMATS`.
        CheckpointError: the file cannot be written.
    """
    write_figure(lambda: make_figure(plan), path, what="draw_plan")


def write_figure(make: Callable[[], Figure], path: str | Path, *, what: str) -> None:
    """Write a figure in the format that the suffix names; the same figure gives the same bytes.

    Args:
        make: makes it, under matplotlib's own defaults, which no user's settings change.
        path: of the file.
        what: who asks, for an error's text.
    Raises:
        MissingPackageError: matplotlib is not installed.
        InvalidValueError: the suffix is none of `FORMATS`.
        CheckpointError: the file cannot be written.
    """
    path = Path(path)
    check_format(path, what=what)
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="matplotlib", extra="plot") from error
    dated = {".pdf": "CreationDate", ".png": "Software", ".svg": "Date"}[path.suffix]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams |= {"svg.hashsalt": "embshare", "hatch.linewidth": 0.6}
        figure = make()
        try:
            figure.savefig(path, dpi=150, metadata={dated: None})
        except OSError as error:
            raise CheckpointError(
                path=path, finding=f"cannot be written ({error.strerror})", hint="Name another."
            ) from error


def check_format(path: Path, *, what: str = "draw_plan") -> None:
    """Refuse a file that `write_figure` could not write.

    Raises:
        InvalidValueError: the suffix is none of `FORMATS`.
    """
    if path.suffix not in FORMATS:
        fault = f"`path` must end in {', '.join(FORMATS)}, but is {str(path)!r}"
        raise InvalidValueError(what=what, faults=[fault])


def make_figure(plan: SharePlan) -> Figure:
    """The plan as a matplotlib figure that belongs to no window."""
    from matplotlib.figure import Figure

    plan = plan if plan.sources else _side_by_side(plan)
    roles = roles_of(plan)
    role_of = {slot.weights[0]: role for role in roles for slot in role.slots}
    strips = [_strips(source, plan.of_source(i)) for i, source in enumerate(plan.sources)]
    height = sum(TITLE + len(rows) * (STRIP + GAP) for rows in strips) + legend_height(roles)
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    top = height
    for index, rows in enumerate(strips):
        top -= TITLE
        _write_title(figure, plan, index, (top + 0.14) / height)
        for first, last in rows:
            top -= STRIP
            share = (last - first) / (rows[0][1] - rows[0][0])
            box = (MARGIN / WIDTH, top / height, share * (1 - 2 * MARGIN / WIDTH), STRIP / height)
            axes = figure.add_axes(box)
            _draw_strip(axes, plan, index, (first, last), share * (WIDTH - 2 * MARGIN), role_of)
            top -= GAP
    axes = figure.add_axes((0, 0, 1, top / height))
    axes.set(xlim=(0, WIDTH), ylim=(0, top))
    axes.axis("off")
    draw_legend(axes, plan, roles, top)
    return figure


def _side_by_side(plan: SharePlan) -> SharePlan:
    """A plan to be drawn: its blocks as columns of one row, an element each."""
    slots, edge = [], 0
    for slot in plan.slots:
        place = {"source": 0, "start": edge, "columns": slot.numel}
        slots.append(slot.model_copy(update=place))
        edge += slot.numel
    source = Source(name="blocks", rows=1, dim=1, stored_dim=1, width=edge)
    return plan.model_copy(update={"sources": (source,), "slots": tuple(slots)})


def _strips(source: Source, slots: Sequence[Slot]) -> list[tuple[int, int]]:
    """Ranges of columns, one for each strip: few enough slots in each to tell them apart."""
    usual = sorted(slot.columns for slot in slots)[len(slots) // 2]
    wide_enough = math.ceil(NARROW * source.width / (usual * (WIDTH - 2 * MARGIN)))
    number = max(math.ceil(len(slots) / SLOTS_IN_A_STRIP), min(wide_enough, 3))
    number = min(number, MOST_STRIPS, source.width)
    length = math.ceil(source.width / number)
    return [(at, min(at + length, source.width)) for at in range(0, source.width, length)]


def _formula(config: ShareConfig) -> str:
    table = f"(E + {config.anchor:g} s R)" if config.anchor else "E"
    if config.method == "eps":
        return f"columns of {table}" if config.anchor else "the table's own columns"
    return f"S = {table} P{' + b' if config.column_bias else ''}"


def _write_title(figure: Figure, plan: SharePlan, index: int, y: float) -> None:
    source, unused = plan.sources[index], plan.unused_columns(index)
    title = f"{source.name}  [{source.rows:,} × {source.stored_dim:,}]"
    numbers = (
        f"{plan.config.method.upper()}: {_formula(plan.config)}, "
        f"{source.width:,} column{'s' * (source.width > 1)}, "
        f"{source.width - unused:,} used, {unused:,} unused"
    )
    if not plan.config.reads_table:
        title = f"{plural(len(plan.slots), 'block')}, each a parameter"
        numbers = f"{plan.config.method.upper()}: {plural(source.width, 'element')}"
    figure.text(
        MARGIN / WIDTH,
        y,
        title,
        fontsize=11,
        fontweight="bold",
    )
    figure.text(
        1 - MARGIN / WIDTH,
        y,
        numbers,
        fontsize=10,
        color=GREY,
        ha="right",
    )


def _draw_strip(
    axes: Axes,
    plan: SharePlan,
    index: int,
    columns: tuple[int, int],
    inches: float,
    role_of: Mapping[str, Role],
) -> None:
    """Some columns of a source, its rows from top to bottom."""
    first, last = columns
    source = plan.sources[index]
    axes.set(xlim=columns, ylim=(source.rows, 0))
    axes.set_facecolor("white")
    _box(axes, first, last, source.rows, UNUSED)
    scale = inches / (last - first)
    edges = {first, last}
    for slot in plan.of_source(index):
        start, stop = max(slot.start, first), min(slot.stop, last)
        if start < stop:
            role = role_of[slot.weights[0]]
            _draw_slot(axes, slot, source.rows, plan.config.order, role.colour, scale)
            _label(axes, slot, role, (start, stop), scale)
            edges |= {start, stop}
    if source.rows <= 32 and scale > 0.1:
        axes.vlines(range(first, last), 0, source.rows, color="#00000030", linewidth=0.5)
        axes.hlines(range(source.rows), first, last, color="#00000030", linewidth=0.5)
    axes.set_xticks(_apart(sorted(edges), 0.5 / scale))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.set_yticks([])
    if plan.config.reads_table:
        axes.set_ylabel(f"V = {source.rows:,}", fontsize=7, color=GREY)
    axes.tick_params(axis="x", labelsize=7, length=2, colors=GREY)
    for spine in axes.spines.values():
        spine.set(color=GREY, linewidth=0.6)


def _apart(ticks: list[int], least: float) -> list[int]:
    """Ticks at least ``least`` apart; the first and the last stay."""
    kept = [ticks[0]]
    for tick in ticks[1:-1]:
        if tick - kept[-1] >= least and ticks[-1] - tick >= least:
            kept.append(tick)
    return [*kept, ticks[-1]]


def _dropped(slot: Slot, rows: int, order: str) -> list[tuple[float, float]]:
    """The corners (column, row) of the part of a slot that nothing reads; empty without any."""
    if not slot.delta:
        return []
    if order == "row":
        full, rest = divmod(slot.numel, slot.columns)
        step = slot.start + rest
        corners: list[tuple[float, float]]
        corners = [(step, full), (slot.stop, full), (slot.stop, rows), (slot.start, rows)]
        return [*corners, (slot.start, full + 1), (step, full + 1)] if rest else corners
    full, rest = divmod(slot.numel, rows)
    column = slot.start + full
    corners = [(column, rest), (column + 1, rest), (column + 1, 0), (slot.stop, 0)]
    return [*corners, (slot.stop, rows), (column, rows)]


def _draw_slot(axes: Axes, slot: Slot, rows: int, order: str, colour: str, scale: float) -> None:
    from matplotlib.patches import Polygon

    line = min(1.0, slot.columns * scale * 72 * 0.15)
    _box(axes, slot.start, slot.stop, rows, {"facecolor": colour, "linewidth": 0})
    if corners := _dropped(slot, rows, order):
        axes.add_patch(Polygon(corners, **DROPPED))  # type: ignore[arg-type]
    border = {"fill": False, "edgecolor": "white", "linewidth": line}
    _box(axes, slot.start, slot.stop, rows, border)


def _box(axes: Axes, start: int, stop: int, rows: int, style: Mapping[str, object]) -> None:
    """Whole columns."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((start, 0), stop - start, rows, **style))  # type: ignore[arg-type]


def _label(axes: Axes, slot: Slot, role: Role, seen: tuple[int, int], scale: float) -> None:
    """The most that fits: name and reuse beside or above each other, upright, the key, nothing."""
    inches = (seen[1] - seen[0]) * scale
    whole = (slot.stop - slot.start) * scale
    if inches < whole / 2 or (inches == whole / 2 and seen[0] > slot.start):
        return  # the other strip has the larger part
    reuse = f"×{len(slot.weights)}"
    parts = role.short.replace(".", ".\n").replace("*.\n", "*.")
    options = [
        (f"{role.short}\n{reuse}", 0, CHARACTER * max(len(role.short), len(reuse))),
        (f"{parts}\n{reuse}", 0, CHARACTER * max(map(len, parts.splitlines()))),
        (f"{role.short} {reuse}", 90, 0.16),
        (f"{role.key}\n{reuse}", 0, CHARACTER * len(reuse)),
        (role.key, 0, CHARACTER * len(role.key)),
    ]
    for text, rotation, needs in options:
        tall = CHARACTER * len(text) if rotation else 0.16 * len(text.splitlines())
        if needs + 0.04 <= inches and tall <= STRIP - 0.05:
            rows = axes.get_ylim()[0]
            axes.text(
                (seen[0] + seen[1]) / 2,
                rows / 2,
                text,
                rotation=rotation,
                fontsize=8,
                ha="center",
                va="center",
                linespacing=1.3,
                bbox={"facecolor": "#ffffffa0", "edgecolor": "none", "pad": 1.0},
            )
            return
