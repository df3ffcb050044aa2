"""A plan's parts as tables."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from embshare._tables import new_table, shape_text
from embshare.plan.slots import LeftDense, RuleMatch, Slot, Source
from embshare.plan.tying import INDEX, pattern_of

__all__ = [
    "abbreviate",
    "count_patterns",
    "error_text",
    "left_dense_table",
    "matches_table",
    "slots_table",
    "sources_table",
]

_TRANSPOSED = "T: the block is [in, out], and the weight is its transpose"


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


def count_patterns(names: Iterable[str]) -> dict[str, int]:
    """How many names of each pattern there are, as `abbreviate` wants them."""
    counts: dict[str, int] = defaultdict(int)
    for name in names:
        counts[pattern_of(name)] += 1
    return counts


def sources_table(sources: Sequence[Source], unused: Sequence[int], stored: Sequence[int]) -> Table:
    """One row a table; ``unused`` columns and elements ``stored`` for them, one each."""
    table = new_table(
        *("#", "table", "V", "D", "F", "columns", "used", "unused", "stored for them"),
        title="sources",
        right=(2, 3, 4, 5, 6, 7, 8),
    )
    for index, source in enumerate(sources):
        tied = "".join(f"\n= {name}" for name in source.tied)
        numbers = (source.rows, source.dim, source.stored_dim, source.width)
        used = (source.width - unused[index], unused[index])
        table.add_row(
            str(index),
            Text(source.name + tied),
            *(f"{number:,}" for number in (*numbers, *used)),
            f"{stored[index]:,}",
        )
    return table


def slots_table(slots: Sequence[Slot], order: str, *, several: bool) -> Table:
    """One row a slot, with its source's number where there are several."""
    fitted = any(slot.fit_error is not None for slot in slots)
    read = any(slot.source is not None for slot in slots)
    place = ["columns", "G", "delta"] if read else ["stored"]
    layout = ["shape", *["order", "gain"] * read]
    headings = [*["#"] * several, *place, *layout, "readers", "reuse", *["fit error"] * fitted]
    table = new_table(
        *headings,
        title="slots",
        caption=_TRANSPOSED if any(slot.transposed for slot in slots) else "",
        right=[i for i, name in enumerate(headings) if name not in ("#", "order", "readers")],
    )
    counts = count_patterns(name for slot in slots for name in slot.weights)
    for slot in slots:
        cells = [*_place(slot), shape_text(slot.shape), *(_layout(slot, order) if read else ())]
        cells += ["\n".join(abbreviate(slot.weights, counts)), f"×{len(slot.weights)}"]
        cells += [error_text(slot.fit_error)] * fitted
        table.add_row(*[str(slot.source)] * several, *map(Text, cells))
    return table


def _place(slot: Slot) -> tuple[str, ...]:
    if slot.source is None:
        return (f"{slot.numel:,}",)
    return f"[{slot.start:,}, {slot.stop:,})", f"{slot.columns:,}", f"{slot.delta:,}"


def _layout(slot: Slot, order: str) -> tuple[str, str]:
    return f"{order}, T" if slot.transposed else order, f"{slot.gain:.4g}"


def error_text(error: float | None) -> str:
    """Three digits, or a dash where nothing was fitted."""
    return "-" if error is None else f"{error:.3g}"


def left_dense_table(left: Iterable[LeftDense]) -> Table:
    """What stays stored, by reason."""
    groups: dict[str, list[LeftDense]] = defaultdict(list)
    for entry in left:
        groups[entry.reason].append(entry)
    table = new_table("reason", "weights", "elements", title="left dense", right=(2,))
    for reason, entries in groups.items():
        names = [entry.weight for entry in entries]
        elements = sum(entry.numel for entry in entries)
        shown = "\n".join(abbreviate(names, count_patterns(names)))
        table.add_row(Text(reason), Text(shown), f"{elements:,}")
    return table


def matches_table(matches: Iterable[RuleMatch]) -> Table:
    """How many weights each pattern of the config decided."""
    table = new_table("field", "pattern", "weights", title="patterns", right=(2,))
    for match in matches:
        table.add_row(match.field, Text(match.pattern), f"{match.count:,}")
    return table
