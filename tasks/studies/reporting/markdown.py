"""A report as Markdown: the same words, figures and tables as the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting.page import Section
from embshare.tasks.studies.reporting.sheets import Sheet

__all__ = ["make_markdown"]

MOST_ROWS: Final = 60


def make_markdown(report: StudyReport, sections: Sequence[Section]) -> str:
    """The report as text; figures are files in ``figures`` beside it."""
    lines = [f"# {report.study.name}", ""]
    origin = report.provenance
    lines += [
        f"{len(report.trials):,} models in {origin.seconds / 60:.1f} minutes on {origin.device} "
        f"({origin.processor}, {origin.cores} cores), {origin.started[:10]}; embshare "
        f"{origin.packages.get('embshare', '')}, commit {origin.commit or 'unknown'}"
        f"{' with changes' if origin.dirty else ''}.",
        "",
    ]
    if report.failed:
        lines += [f"{len(report.failed)} trials failed:", ""]
        lines += [f"* {_escaped(name)}: {_escaped(why)}" for name, why in report.failed.items()]
        lines += [""]
    for section in sections:
        lines += _section(section)
    return "\n".join(lines)


def _section(section: Section) -> Iterator[str]:
    analysis = section.analysis
    yield from (f"## {analysis.title}", "")
    yield f"Compared by {analysis.metric.label}; {analysis.metric.better} is better."
    yield from (_escaped(sentence) for sentence in analysis.sentences())
    yield ""
    for name in section.figures:
        yield from (f"![{analysis.title}, {name}](figures/{analysis.task}-{name}.svg)", "")
    for sheet in section.sheets:
        yield from _sheet(sheet)


def _sheet(sheet: Sheet) -> Iterator[str]:
    yield from (f"### {sheet.title}", "")
    order = sheet.ordered()
    yield _line(sheet.head)
    yield f"| {' | '.join('---' if n < sheet.words else '---:' for n in range(len(sheet.head)))} |"
    for index in order[:MOST_ROWS]:
        yield _line([cell.text for cell in sheet.rows[index]])
    yield ""
    if len(order) > MOST_ROWS:
        yield from (f"{len(order) - MOST_ROWS:,} more rows are in report.html and rows.csv.", "")
    for note in sheet.notes:
        yield from (_escaped(note), "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    """What Markdown would read as more than text."""
    for mark in "\\|*_`<[":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
