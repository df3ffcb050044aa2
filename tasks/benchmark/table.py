"""A report as a table for the terminal."""

from __future__ import annotations

import textwrap
from typing import Final

from rich import box
from rich.table import Table

from embshare.tasks.benchmark.report import BenchmarkReport, Row, Spread

__all__ = ["make_table", "show_spread"]

WIDE: Final = 13  # characters of the column that models are compared by


def make_table(report: BenchmarkReport, task: str) -> Table:
    """One task's rows: what is stored, read and written, how good it is, and what it costs."""
    found = report.task(task)
    seeds = len(report.config.seeds)
    table = Table(  # fits into 80 characters, without a number cut off
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
        title=task.replace("_", " "),
        caption=f"means ± standard deviation over {seeds} seed{'s' * (seeds > 1)}; "
        "peak memory is the process's, in brackets what training added",
    )
    metric = found.metric
    for heading in ("model", "method"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        "stored",
        "read",
        "bytes\non disk",
        "\n".join(textwrap.wrap(metric.label, WIDE)) + f"\n({metric.better}\nis better)",
        "ms per\nstep",
        "peak\nMiB",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    before = None
    for row in report.rows(task):
        if before not in (None, row.architecture):
            table.add_section()
        before = row.architecture
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.architecture,
        row.method,
        f"{row.stored:,}",
        f"{row.read:,}",
        f"{row.bytes_on_disk:,}",
        show_spread(row.metric, digits=4),
        show_spread(row.ms_per_step, digits=3),
        f"{row.peak_mib.mean:,.0f} (+{row.growth_mib.mean:,.0f})",
    )


def show_spread(spread: Spread, *, digits: int) -> str:
    """Mean and deviation with as many decimals as the mean needs for ``digits`` digits."""
    whole = len(str(int(abs(spread.mean)))) if abs(spread.mean) < 1e15 else digits
    decimals = max(0, digits - whole)
    mean = f"{spread.mean:,.{decimals}f}"
    return mean if spread.deviation is None else f"{mean} ± {spread.deviation:,.{decimals}f}"
