"""A report as one HTML page that needs nothing else: tables that sort, figures, samples."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting.analysis import Analysis
from embshare.tasks.studies.reporting.plot import method_of, styles_of
from embshare.tasks.studies.reporting.sheets import Cell, Sheet

__all__ = ["SHOWN_ROWS", "Sample", "Section", "make_page", "samples_of"]

TEMPLATE: Final = Path(__file__).with_name("page.html.jinja")
SHOWN_ROWS: Final = 200
"""Rows of a table that are in the page from the start; the rest are behind a click."""
SAMPLES: Final = 8
MODELS: Final = 12
"""Models whose predictions are side by side."""
PREDICTION: Final = "prediction"
IMAGE: Final = "image"
KINDS: Final = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


@dataclass(frozen=True)
class Sample:
    """One example with what every model made of it."""

    given: Mapping[str, str]
    """What all models had: source, reference."""
    image: str | None
    """As a data address."""
    predictions: tuple[tuple[str, str], ...]
    """Model and prediction."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What a report shows of one task."""

    analysis: Analysis
    sheets: tuple[Sheet, ...]
    """The rows first."""
    figures: Mapping[str, bytes]
    """Name -> SVG: ``bytes`` first, then other measures, and ``curves`` if there are any."""


def make_page(report: StudyReport, sections: Sequence[Section], folders: Mapping[str, Path]) -> str:
    """The page as text; figures and samples are inside.

    Args:
        report: What is shown.
        sections: The same, task by task.
        folders: Name of a trial -> folder of its run, where samples are.
    """
    from jinja2 import Environment, StrictUndefined, select_autoescape

    environment = Environment(
        autoescape=select_autoescape(default=True), undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        report=report,
        tasks=[_task(section, folders) for section in sections],
        minutes=f"{report.provenance.seconds / 60:.1f}",
        config=report.study.to_yaml(),
    )


def _task(section: Section, folders: Mapping[str, Path]) -> dict[str, Any]:
    analysis = section.analysis
    styles = styles_of(analysis)
    colours = [styles[method_of(analysis, row)][0] for row in analysis.rows]
    record = analysis.report.task(analysis.task)
    figures = {name: _address(drawn, "image/svg+xml") for name, drawn in section.figures.items()}
    rows, *others = section.sheets
    return {
        "name": analysis.task,
        "title": analysis.title,
        "metric": analysis.metric,
        "sentences": list(analysis.sentences()),
        "figures": figures,
        "rows": _sheet(rows, colours),
        "sheets": [_sheet(sheet) for sheet in others],
        "samples": list(samples_of(analysis, folders)),
        "data": json.dumps(record.data, indent=2, ensure_ascii=False),
    }


def _sheet(sheet: Sheet, colours: Sequence[str] = ()) -> dict[str, Any]:
    order = sheet.ordered()
    now, later = order[:SHOWN_ROWS], order[SHOWN_ROWS:]
    return {
        "title": sheet.title,
        "notes": sheet.notes,
        "head": sheet.head,
        "words": sheet.words,
        "rows": [(colours[index] if colours else "", sheet.rows[index]) for index in now],
        "total": len(order),
        "later": _packed(sheet, later, colours) if later else "",
    }


def _packed(sheet: Sheet, later: Sequence[int], colours: Sequence[str]) -> str:
    """Rows as JSON for the page's script: colour, and text or text with value for each cell."""
    rows = [[colours[index] if colours else "", *map(_entry, sheet.rows[index])] for index in later]
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")  # whatever a label says, the script element goes on


def _entry(cell: Cell) -> str | list[str | float]:
    value = cell.value
    if isinstance(value, str):
        return cell.text if value == cell.text else [cell.text, value]
    if cell.text.replace(",", "") == str(value):
        return cell.text
    return [cell.text, float(f"{value:.6g}") if math.isfinite(value) else str(value)]


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def samples_of(analysis: Analysis, folders: Mapping[str, Path]) -> Iterator[Sample]:
    """Some examples that the models of a task's first seed were scored on, side by side.

    A task that has any wrote ``samples.json`` for each model: a list of objects with a
    ``prediction``, perhaps the file name of an ``image`` beside it, and what the model had.
    """
    found: dict[str, tuple[list[dict[str, Any]], Path]] = {}
    for index in analysis.chosen(MODELS):
        row = analysis.rows[index]
        folder = folders.get(row.trials[0].name)
        if folder is not None:
            samples = folder / "samples"
            found[analysis.name(row)] = (_read(samples), samples)
    lists = [samples for samples, _ in found.values()]
    for index in range(min(SAMPLES, *map(len, lists)) if lists else 0):
        first, folder = next(iter(found.values()))
        given = {k: _text(v) for k, v in first[index].items() if k not in (PREDICTION, IMAGE)}
        yield Sample(
            given=given,
            image=_image(folder, first[index].get(IMAGE)),
            predictions=tuple(
                (model, _text(samples[index].get(PREDICTION, "")))
                for model, (samples, _) in found.items()
            ),
        )


def _read(folder: Path) -> list[dict[str, Any]]:
    path = folder / "samples.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    return [entry for entry in found if isinstance(entry, dict)]


def _text(value: object) -> str:
    """As shown; of several references the first two."""
    return " | ".join(map(str, value[:2])) if isinstance(value, list) else str(value)


def _image(folder: Path, name: object) -> str | None:
    if not isinstance(name, str):
        return None
    path = folder / name
    kind = KINDS.get(path.suffix.lower())
    return _address(path.read_bytes(), kind) if kind and path.is_file() else None
