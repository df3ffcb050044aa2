"""A walk's result as tables for the documentation."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from embshare.tasks.coverage.report import Report
from embshare.tasks.coverage.row import Row
from embshare.tasks.coverage.summing import partly_dense, totals

__all__ = ["exceptions_table", "full_lists", "totals_table"]

_NUMBER: Final = re.compile(r"\d+")


def totals_table(report: Report) -> str:
    """One line for each library, with its version."""
    lines = [
        "| library | examined | no table | not run | fail | pass | of all with a table "
        "| of those that run | less than 95 % derived |",
        f"| --- |{' ---: |' * 8}",
    ]
    for library, counts in totals(report.rows()).items():
        reading = counts["examined"] - counts["no table"]
        cells = [
            f"{library} {_version(report, library)}",
            f"{counts['examined']:,}",
            f"{counts['no table']:,}",
            f"{counts['not run']:,}",
            f"{counts['fails']:,}",
            f"{counts['passes']:,}",
            _share(counts["passes"], reading),
            _share(counts["passes"], reading - counts["not run"]),
            f"{counts['partly dense']:,}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} of {whole:,}" if whole else ""


def _version(report: Report, library: str) -> str:
    for walk in reversed(report.walks):
        if any(row.library == library for row in walk.rows):
            found = walk.provenance.packages
            return found.get(library) or found.get(f"{library}-fixed", "")
    return ""


def exceptions_table(report: Report) -> str:
    """What does not pass, and what passes partly dense; equal findings in one line."""
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in report.rows():
        if row.outcome in ("fails", "not run"):
            groups[row.library, f"{row.outcome}, {row.stage}", _alike(row.finding)].append(row.name)
        elif partly_dense(row):
            groups[row.library, f"{row.share:.0%} derived", _dense(row)].append(row.name)
    lines = ["| library | architecture | outcome | what it says |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {library} | {', '.join(names)} | {outcome} | {_cell(finding)} |"
        for (library, outcome, finding), names in groups.items()
    ]
    return "\n".join(lines if groups else ["Nothing: all that can be run pass."])


def _alike(finding: str) -> str:
    """Sizes differ among architectures that fail for one reason."""
    return _NUMBER.sub("…", finding) if "parameters are too many" in finding else finding


def _dense(row: Row) -> str:
    return "; ".join(f"{', '.join(kept.weights)}: {kept.reason}" for kept in row.dense)


def _cell(text: str) -> str:
    short = text if len(text) <= 160 else f"{text[:160]}…"
    return f"`{short.replace('|', '/').replace('`', chr(39))}`" if short else ""


def full_lists(report: Report) -> str:
    """Every architecture of every library, folded."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in report.rows():
        if row.outcome == "passes":
            groups[row.library].append(row)
    return "\n\n".join(_folded(library, rows) for library, rows in groups.items())


def _folded(library: str, rows: Sequence[Row]) -> str:
    names = ("architecture", "read from", "hidden parameters", "derived", "dense, and why")
    head = "".join(f"<th>{name}</th>" for name in names)
    return (
        f"<details><summary>{library}: the {len(rows):,} that pass</summary>\n"
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{_lines(rows)}\n</tbody></table></details>"
    )


def _lines(rows: Iterable[Row]) -> str:
    return "\n".join(
        f"<tr><td>{html.escape(row.name)}</td><td>{html.escape(', '.join(row.source))}</td>"
        f"<td>{row.hidden:,}</td><td>{row.share:.1%}</td><td>{html.escape(_dense(row))}</td></tr>"
        for row in rows
    )
