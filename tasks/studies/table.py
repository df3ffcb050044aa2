"""A report as a table for the terminal."""

from __future__ import annotations

import textwrap
from typing import Final

from rich import box
from rich.markup import escape
from rich.table import Table

from embshare.tasks.studies.report import Row, Spread, StudyReport

__all__ = ["make_table", "show_change", "show_spread"]

WIDE: Final = 13  # characters of the column that models are compared by


def make_table(report: StudyReport, task: str) -> Table:
    """One task's rows: what is stored, read and written, how good it is, and what it costs."""
    metric, seeds = report.metric(task), len(report.seeds)
    table = Table(  # fits into 80 characters, without a number cut off
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
        title=task.replace("_", " "),
        caption=f"means ± standard deviation over {seeds} seed{'s' * (seeds > 1)}; "
        "peak memory is the process's, in brackets what training added",
    )
    for axis in report.axes:
        table.add_column(axis.replace("_", " "), overflow="fold")  # gives way to numbers
    for heading in (
        "stored",
        "read",
        "bytes\non disk",
        "\n".join(textwrap.wrap(metric.label, WIDE)) + f"\n({metric.better}\nis better)",
        *["change"] * bool(report.study.compare.baseline),
        "ms per\nstep",
        "peak\nMiB",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    before, compared = None, bool(report.study.compare.baseline)
    for row in report.rows(task):
        if before not in (None, row.first):
            table.add_section()
        before = row.first
        table.add_row(*map(escape, row.labels.values()), *_cells(row, compared=compared))
    return table


def _cells(row: Row, *, compared: bool) -> tuple[str, ...]:
    return (
        f"{row.stored:,}",
        f"{row.read:,}",
        f"{row.bytes_on_disk:,}",
        show_spread(row.metric, digits=4),
        *[show_change(row)] * compared,
        show_spread(row.ms_per_step, digits=3),
        f"{row.peak_mib.mean:,.0f} (+{row.growth_mib.mean:,.0f})",
    )


def show_change(row: Row) -> str:
    """Change of the metric against the baseline, in percent; nothing where there is none."""
    return "" if row.change is None else f"{100 * row.change:+.1f} %"


def show_spread(spread: Spread, *, digits: int) -> str:
    """Mean and deviation with as many decimals as the mean needs for ``digits`` digits."""
    whole = len(str(int(abs(spread.mean)))) if abs(spread.mean) < 1e15 else digits
    decimals = max(0, digits - whole)
    mean = f"{spread.mean:,.{decimals}f}"
    return mean if spread.deviation is None else f"{mean} ± {spread.deviation:,.{decimals}f}"
