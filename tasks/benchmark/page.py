"""A report as one HTML page that needs nothing else: tables that sort, pictures, samples."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from embshare.tasks.benchmark.config import CELLS
from embshare.tasks.benchmark.picture import COLOURS, LABELS, draw_pareto
from embshare.tasks.benchmark.report import BenchmarkReport, Row, cell_of
from embshare.tasks.benchmark.table import show_spread

__all__ = ["Cell", "Sample", "make_page", "samples_of"]

TEMPLATE: Final = Path(__file__).with_name("page.html.jinja")
HEAD: Final = (
    "model",
    "method",
    "stored",
    "of these hidden",
    "read",
    "bytes on disk",
    "ms per step",
    "peak MiB",
    "training added MiB",
)
SAMPLES: Final = 8
PREDICTION: Final = "prediction"
IMAGE: Final = "image"
KINDS: Final = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


@dataclass(frozen=True)
class Cell:
    """One entry of a table: what is shown, and the number that it is sorted by."""

    text: str
    value: float | str


@dataclass(frozen=True)
class Sample:
    """One example with what every model made of it."""

    given: Mapping[str, str]
    """What all models had: source, reference."""
    image: str | None
    """As a data address."""
    predictions: tuple[tuple[str, str], ...]
    """Model and prediction."""


def make_page(report: BenchmarkReport) -> str:
    """The page as text; pictures and samples are inside."""
    from jinja2 import Environment, StrictUndefined, select_autoescape

    environment = Environment(
        autoescape=select_autoescape(default=True), undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        report=report,
        tasks=[_task(report, name) for name in report.config.tasks],
        colours=COLOURS,
        seeds=len(report.config.seeds),
        minutes=f"{report.provenance.seconds / 60:.1f}",
        config=report.config.model_dump_json(indent=2),
    )


def _task(report: BenchmarkReport, name: str) -> dict[str, Any]:
    record = report.task(name)
    metric = record.metric
    return {
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "metric": metric,
        "head": [*HEAD[:6], metric.label, *HEAD[6:]],
        "rows": [(row.architecture, list(_cells(row))) for row in report.rows(name)],
        "pareto": _picture(report, name),
        "samples": list(samples_of(report, name)),
        "data": json.dumps(record.data, indent=2, ensure_ascii=False),
    }


def _cells(row: Row) -> Iterator[Cell]:
    yield Cell(LABELS[row.architecture], row.architecture)
    yield Cell(LABELS[row.method], row.method)
    for number in (row.stored, row.hidden, row.read, row.bytes_on_disk):
        yield Cell(f"{number:,}", number)
    yield Cell(show_spread(row.metric, digits=4), row.metric.mean)
    yield Cell(show_spread(row.ms_per_step, digits=3), row.ms_per_step.mean)
    for spread in (row.peak_mib, row.growth_mib):
        yield Cell(f"{spread.mean:,.0f}", spread.mean)


def _picture(report: BenchmarkReport, task: str) -> str:
    """The Pareto picture as an address that holds its content."""
    drawn = BytesIO()
    draw_pareto(report, task, drawn)
    return _address(drawn.getvalue(), "image/png")


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def samples_of(report: BenchmarkReport, task: str) -> Iterator[Sample]:
    """Some examples that the models of a task's first seed were scored on, side by side.

    A task that has any wrote ``samples.json`` for each model: a list of objects with a
    ``prediction``, perhaps the file name of an ``image`` beside it, and what the model had.
    """
    seed = report.config.seeds[0]
    cells = [cell_of(result) for result in report.results if result.task == task]
    folders = {cell: report.config.out / CELLS / cell.name / "samples" for cell in cells}
    found = {
        f"{LABELS[cell.architecture]}, {LABELS[cell.method]}": (_read(folder), folder)
        for cell, folder in folders.items()
        if cell.seed == seed
    }
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
