"""A report as a table for the terminal."""

from __future__ import annotations

import textwrap
from typing import Final

from rich import box
from rich.markup import escape
from rich.table import Table

from embshare.tasks.studies.reporting.analysis import Analysis
from embshare.tasks.studies.reporting.formatting import show_change, show_interval, show_number

__all__ = ["MOST_ROWS", "make_table"]

WIDE: Final = 13  # characters of the column that models are compared by
MOST_ROWS: Final = 60
"""Rows that a terminal shows: of more, baselines, the front and the best others."""


def make_table(analysis: Analysis) -> Table:
    """One task's rows: what is stored and written, how good it is, and what it costs."""
    table = Table(  # fits into 80 characters, without a number cut off
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
        title=analysis.title,
        caption=_caption(analysis),
        caption_justify="left",
    )
    for axis in analysis.report.axes:
        table.add_column(axis.replace("_", " "), overflow="fold")  # gives way to numbers
    metric = analysis.metric
    for heading in (
        "stored",
        "bytes\non disk",
        "\n".join(textwrap.wrap(metric.label, WIDE)) + f"\n({metric.better}\nis better)",
        *["change"] * analysis.compared,
        "ms per\nstep",
        "peak\nMiB",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    before = None
    for index in analysis.chosen(MOST_ROWS):
        row = analysis.rows[index]
        if before not in (None, row.first):
            table.add_section()
        before = row.first
        table.add_row(*map(escape, row.labels.values()), *_cells(analysis, index))
    return table


def _cells(analysis: Analysis, index: int) -> tuple[str, ...]:
    row = analysis.rows[index]
    return (
        f"{row.stored:,}" + _mark(analysis, "parameters", index),
        f"{row.bytes_on_disk:,}" + _mark(analysis, "bytes", index),
        show_interval(row.metric),
        *[show_change(row, analysis.comparisons[index])] * analysis.compared,
        show_number(row.ms_per_step.mean, digits=3),
        f"{row.peak_mib.mean:,.0f} (+{row.growth_mib.mean:,.0f})",
    )


def _mark(analysis: Analysis, measure: str, index: int) -> str:
    """A dot behind a size at which nothing better is as small; else its room."""
    return "•" if analysis.on_front(measure, index) else " "


def _caption(analysis: Analysis) -> str:
    seeds = analysis.seeds
    said = [f"means ± 95 % interval over {seeds} seeds" if seeds > 1 else "one seed"]
    if any(c is not None and c.p is not None for c in analysis.comparisons):
        said.append("* significant against the baseline (paired t-test, Holm, 5 %)")
    said.append("• on the Pareto front of that size and the metric")
    said.append("peak memory is the process's, in brackets what training added")
    if (more := len(analysis.rows) - MOST_ROWS) > 0:
        said.append(f"{more:,} more rows are in rows.csv")
    return "; ".join(said)
