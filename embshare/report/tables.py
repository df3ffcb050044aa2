"""Plans and summaries as tables that a person can check by eye."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from embshare.config import ShareConfig
from embshare.plan.tying import INDEX, pattern_of
from embshare.plan.uneven import uneven_roles
from embshare.plan.values import LeftDense, SharePlan, Slot

if TYPE_CHECKING:
    from embshare.summary import Summary

__all__ = [
    "WIDTH",
    "abbreviate",
    "plan_table",
    "poor_sources",
    "render",
    "summary_table",
    "totals_table",
]

WIDTH = 120
"""Characters of a rendered line, wherever it is shown: output is the same in a pipe and a test."""

_TRANSPOSED = "T: the block is laid out [in, out], and the weight is its transpose"


def render(renderable: RenderableType) -> str:
    """Plain text, `WIDTH` characters wide at most, without colours or trailing blanks."""
    out = io.StringIO()
    console = Console(
        file=out, width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False
    )
    console.print(renderable)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def plan_table(plan: SharePlan) -> RenderableType:
    """Sources, slots, what stayed dense and why, and what each pattern decided.

    Returns:
        Anything that rich prints; `render` makes plain text of it.
    """
    parts: list[RenderableType] = [Text(_headline(plan)), _sources(plan)]
    parts += [Text(f"{note}\n") for note in (*poor_sources(plan), *(plan.notes or ()))]
    parts.append(_slots(plan))
    if plan.left_dense:
        parts.append(_left_dense(plan.left_dense))
    parts += (Text(f"uneven: {uneven}\n") for uneven in uneven_roles(plan))
    if plan.matches:
        parts.append(_matches(plan))
    return Group(*parts)


def summary_table(summary: Summary) -> RenderableType:
    """What is stored, read and computed, and what each slot gives."""
    fitted = any(row.fit_error is not None for row in summary.layers)
    headings = ["columns", "G", "shape", "readers", "reuse", *["fit error"] * fitted]
    slots = _table(*headings, title="slots", right=(0, 1, 2, 4, 5))
    counts = _count_patterns(name for row in summary.layers for name in row.weights)
    for row in summary.layers:
        slots.add_row(
            f"[{row.start:,}, {row.start + row.columns:,})",
            f"{row.columns:,}",
            _shape(row.shape),
            Text("\n".join(abbreviate(row.weights, counts))),
            f"×{row.reuse}",
            *[_error(row.fit_error)] * fitted,
        )
    unused = ", ".join(f"{columns:,}" for columns in summary.unused_columns)
    parts: list[RenderableType] = [
        totals_table(summary),
        slots,
        Text(f"start: {summary.start}"),
        Text(f"unused columns: {unused}\n"),
    ]
    if summary.left_dense:
        parts.append(_left_dense(summary.left_dense))
    return Group(*parts)


def totals_table(summary: Summary) -> RenderableType:
    """What is stored, read and computed: dense and shared beside each other."""
    totals = _table("", "dense", "shared", "ratio", right=(1, 2, 3))
    _compare(totals, "stored parameters", summary.stored_before, summary.stored)
    _compare(totals, "of them for hidden weights", summary.hidden_before, summary.hidden_stored)
    _compare(totals, "bytes", summary.bytes_before, summary.bytes)
    totals.add_row("parameters read", "", f"{summary.read:,}", "")
    totals.add_row("multiply-adds per position", *[f"{summary.macs_per_position:,}"] * 2, "1.00")
    totals.add_row("multiply-adds to derive once", "", f"{summary.derive_macs:,}", "")
    return totals


def abbreviate(names: Iterable[str], counts: Mapping[str, int]) -> list[str]:
    """Names that differ only in indices as one line, with their number.

    Args:
        names: of the weights that read one slot.
        counts: how many names of a pattern there are in all; where a slot is read by some of them
            only, their indices are spelled out instead of ``*``.

    >>> abbreviate(["a.0.w", "a.1.w", "a.2.w", "b.w"], {"a.*.w": 5, "b.w": 1})
    ['a.{0-2}.w (3)', 'b.w']
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[pattern_of(name)].append(name)
    return [
        group[0] if len(group) == 1 else f"{_together(pattern, group, counts)} ({len(group)})"
        for pattern, group in groups.items()
    ]


def _together(pattern: str, names: list[str], counts: Mapping[str, int]) -> str:
    if counts.get(pattern, 0) == len(names):
        return pattern
    columns = zip(*(map(int, INDEX.findall(name)) for name in names), strict=True)
    filled = (_ranges(sorted(set(column))) for column in columns)
    return re.sub(r"\*", lambda _: next(filled), pattern)


def _ranges(numbers: list[int]) -> str:
    """``[0, 1, 2, 5]`` as ``{0-2,5}``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return shown if len(numbers) == 1 else f"{{{shown}}}"


def _count_patterns(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for name in names:
        counts[pattern_of(name)] += 1
    return counts


def _headline(plan: SharePlan) -> str:
    readers = sum(len(slot.weights) for slot in plan.slots)
    derived = sum(slot.numel * len(slot.weights) for slot in plan.slots)
    return (
        f"{plan.config.method.upper()}, tie={plan.config.tie}: {_plural(readers, 'weight')} "
        f"({derived:,} elements) from {_plural(len(plan.slots), 'slot')}\n"
        f"{_settings(plan.config)}\n"
        f"start: {plan.start_line}"
    )


def _settings(config: ShareConfig) -> str:
    """The fields that differ from the defaults."""
    changed = {
        name: getattr(config, name)
        for name, field in ShareConfig.model_fields.items()
        if getattr(config, name) != field.default
    }
    shown = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    return f"ShareConfig({shown})"


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _table(*headings: str, title: str = "", caption: str = "", right: Iterable[int] = ()) -> Table:
    """A table of plain text: names may hold brackets, which are no markup."""
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        caption=Text(f"{caption}\n") if caption else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        highlight=False,
    )
    numbers = set(right)
    for index, heading in enumerate(headings):
        justify = "right" if index in numbers else "left"
        table.add_column(Text(heading), justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _sources(plan: SharePlan) -> Table:
    table = _table(
        *("#", "table", "V", "D", "F", "columns", "used", "unused", "stored for them"),
        title="sources",
        right=(2, 3, 4, 5, 6, 7, 8),
    )
    for index, source in enumerate(plan.sources):
        unused = plan.unused_columns(index)
        tied = "".join(f"\n= {name}" for name in source.tied)
        numbers = (source.rows, source.dim, source.stored_dim, source.width)
        table.add_row(
            str(index),
            Text(source.name + tied),
            *(f"{number:,}" for number in (*numbers, source.width - unused, unused)),
            f"{_projection(plan, index):,}",
        )
    return table


def poor_sources(plan: SharePlan) -> list[str]:
    """A sentence for each table whose projection is no smaller than the weights that it gives.

    A slot of ``n`` elements costs ``n F / V``: a table with fewer rows than columns pays only where
    several layers read one slot.
    """
    notes = []
    for index, source in enumerate(plan.sources):
        cost = _projection(plan, index)
        gain = sum(slot.numel * len(slot.weights) for slot in plan.of_source(index))
        if cost >= gain:
            notes.append(
                f"`{source.name}` is a poor source: {cost:,} elements are stored in the place of "
                f"{gain:,}, because it has {source.rows:,} rows for {source.stored_dim:,} columns. "
                f"Name a table of more rows, tie more layers, or set a `factor`."
            )
    return notes


def _projection(plan: SharePlan, index: int) -> int:
    """Elements of ``P`` and ``b``; EPS stores nothing besides the table."""
    if plan.config.method == "eps":
        return 0
    source = plan.sources[index]
    return source.width * (source.stored_dim + plan.config.column_bias)


def _slots(plan: SharePlan) -> Table:
    several = len(plan.sources) > 1
    fitted = any(slot.fit_error is not None for slot in plan.slots)
    headings = ["columns", "G", "delta", "shape", "order", "gain", "readers", "reuse"]
    headings += ["fit error"] * fitted
    table = _table(
        *(["#"] if several else []),
        *headings,
        title="slots",
        caption=_TRANSPOSED if any(slot.transposed for slot in plan.slots) else "",
        right=[i + several for i in (0, 1, 2, 3, 5, 7, 8)],
    )
    counts = _count_patterns(plan.weights())
    for slot in plan.slots:
        cells = [*_slot(slot, plan.config.order, counts), *[_error(slot.fit_error)] * fitted]
        table.add_row(*([str(slot.source)] if several else []), *cells)
    return table


def _slot(slot: Slot, order: str, counts: Mapping[str, int]) -> Iterable[str | Text]:
    return (
        f"[{slot.start:,}, {slot.stop:,})",
        f"{slot.columns:,}",
        f"{slot.delta:,}",
        _shape(slot.shape),
        f"{order}, T" if slot.transposed else order,
        f"{slot.gain:.4g}",
        Text("\n".join(abbreviate(slot.weights, counts))),
        f"×{len(slot.weights)}",
    )


def _error(error: float | None) -> str:
    return "-" if error is None else f"{error:.3g}"


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _left_dense(left: Iterable[LeftDense]) -> Table:
    groups: dict[str, list[LeftDense]] = defaultdict(list)
    for entry in left:
        groups[entry.reason].append(entry)
    table = _table("reason", "weights", "elements", title="left dense", right=(2,))
    for reason, entries in groups.items():
        names = [entry.weight for entry in entries]
        elements = sum(entry.numel for entry in entries)
        shown = "\n".join(abbreviate(names, _count_patterns(names)))
        table.add_row(Text(reason), Text(shown), f"{elements:,}")
    return table


def _matches(plan: SharePlan) -> Table:
    table = _table("field", "pattern", "weights", title="patterns", right=(2,))
    for match in plan.matches:
        table.add_row(match.field, Text(match.pattern), f"{match.count:,}")
    return table


def _compare(table: Table, name: str, before: int, after: int) -> None:
    ratio = f"{before / after:.2f}" if after else "-"
    table.add_row(name, f"{before:,}", f"{after:,}", ratio)
