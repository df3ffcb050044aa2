"""Writes what is made of a report: page, Markdown, figures, and the rows as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Final

from embshare.tasks.runs.folder import write_text
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting.analysis import MEASURES, Analysis, analyse
from embshare.tasks.studies.reporting.markdown import make_markdown
from embshare.tasks.studies.reporting.page import SHOWN_ROWS, Section, make_page
from embshare.tasks.studies.reporting.plot import draw_curves, draw_front, write_figure
from embshare.tasks.studies.reporting.sheets import (
    Sheet,
    csv_rows,
    effects_sheet,
    interactions_sheet,
    rows_sheet,
    trades_sheet,
)

__all__ = ["report_files", "write_files"]

PAGE: Final = "report.html"
MARKDOWN: Final = "report.md"
ROWS: Final = "rows.csv"
FIGURES: Final = "figures"
CURVES: Final = "curves"
FORMATS: Final = ("svg", "pdf")


def report_files(tasks: Iterable[str]) -> Iterator[str]:
    """Every file that `write_files` may write for these tasks, relative to the folder."""
    yield from (PAGE, MARKDOWN, ROWS)
    for task in tasks:
        for name in (*MEASURES, CURVES):
            yield from (f"{FIGURES}/{task}-{name}.{kind}" for kind in FORMATS)


def write_files(
    report: StudyReport,
    out: Path,
    folders: Mapping[str, Path],
    *,
    geometry: Mapping[str, Sheet] | None = None,
) -> None:
    """Write ``report.html``, ``report.md``, ``rows.csv`` and ``figures``.

    Args:
        report: What is shown.
        out: An existing folder.
        folders: Name of a trial -> folder of its run, where samples and curves are; nothing is
            written there.
        geometry: Task -> table of its embeddings' geometry, if that was measured.
    Raises:
        InvalidValueError: trials have no metric of the name that the study compares by.
    """
    sections = []
    for task in report.tasks:
        analysis = analyse(report, task.name)
        extra = [geometry[task.name]] if geometry and task.name in geometry else []
        sheets = (
            rows_sheet(analysis, SHOWN_ROWS),
            effects_sheet(analysis),
            interactions_sheet(analysis),
            trades_sheet(analysis, SHOWN_ROWS),
            *extra,
        )
        sections.append(
            Section(
                analysis=analysis,
                sheets=tuple(sheet for sheet in sheets if sheet is not None),
                figures=_figures(analysis, out, folders),
            )
        )
    write_text(out / ROWS, _csv([section.analysis for section in sections]))
    write_text(out / MARKDOWN, make_markdown(report, sections))
    write_text(out / PAGE, make_page(report, sections, folders))


def _figures(analysis: Analysis, out: Path, folders: Mapping[str, Path]) -> dict[str, bytes]:
    """Draw and write a task's figures; what is returned is their SVG, for the page."""
    (out / FIGURES).mkdir(exist_ok=True)
    drawn = {name: draw_front(analysis, name) for name in MEASURES}
    if (curves := draw_curves(analysis, folders)) is not None:
        drawn[CURVES] = curves
    found = {}
    for name, figure in drawn.items():
        for kind in FORMATS:
            content = BytesIO()
            write_figure(figure, content, kind)
            (out / FIGURES / f"{analysis.task}-{name}.{kind}").write_bytes(content.getvalue())
            if kind == "svg":
                found[name] = content.getvalue()
    return found


def _csv(analyses: Sequence[Analysis]) -> str:
    rows = [row for analysis in analyses for row in csv_rows(analysis)]
    text = StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
