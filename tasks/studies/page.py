"""A report as one HTML page that needs nothing else: tables that sort, plots, samples."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from embshare.tasks.studies.plot import colours_of, draw_pareto, shown
from embshare.tasks.studies.report import Row, StudyReport
from embshare.tasks.studies.study_file import TRIALS
from embshare.tasks.studies.table import show_change, show_spread

__all__ = ["Cell", "Sample", "make_page", "samples_of"]

TEMPLATE: Final = Path(__file__).with_name("page.html.jinja")
SIZES: Final = ("stored", "of these hidden", "read", "bytes on disk")
COSTS: Final = ("ms per step", "peak MiB", "training added MiB")
SAMPLES: Final = 8
PREDICTION: Final = "prediction"
IMAGE: Final = "image"
KINDS: Final = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


@dataclass(frozen=True)
class Cell:
    """One entry of a table: what is shown, and the number that it is sorted by."""

    text: str
    value: float | str
    kind: str = ""
    """Class of the cell in the page's style."""


@dataclass(frozen=True)
class Sample:
    """One example with what every model made of it."""

    given: Mapping[str, str]
    """What all models had: source, reference."""
    image: str | None
    """As a data address."""
    predictions: tuple[tuple[str, str], ...]
    """Model and prediction."""


def make_page(report: StudyReport, out: Path) -> str:
    """The page as text; plots and samples are inside.

    Args:
        report: What is shown.
        out: Folder of the study, where samples are.
    """
    from jinja2 import Environment, StrictUndefined, select_autoescape

    environment = Environment(
        autoescape=select_autoescape(default=True), undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        report=report,
        tasks=[_task(report, task.name, out) for task in report.tasks],
        seeds=len(report.seeds),
        minutes=f"{report.provenance.seconds / 60:.1f}",
        config=report.study.to_yaml(),
    )


def _task(report: StudyReport, name: str, out: Path) -> dict[str, Any]:
    record, metric, rows = report.task(name), report.metric(name), list(report.rows(name))
    compared = bool(report.study.compare.baseline)
    axes = [axis.replace("_", " ") for axis in report.axes]
    colours = list(colours_of(rows).items())
    return {
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "metric": metric,
        "words": len(axes),
        "head": [*axes, *SIZES, metric.label, *["change"] * compared, *COSTS],
        "rows": [(dict(colours)[row.first], list(_cells(row, compared))) for row in rows],
        "pareto": _plot(report, name),
        "samples": list(samples_of(report, name, out)),
        "data": json.dumps(record.data, indent=2, ensure_ascii=False),
    }


def _cells(row: Row, compared: bool) -> Iterator[Cell]:
    for label in row.labels.values():
        yield Cell(shown(label), label)
    for number in (row.stored, row.hidden, row.read, row.bytes_on_disk):
        yield Cell(f"{number:,}", number)
    yield Cell(show_spread(row.metric, digits=4), row.metric.mean, kind="metric")
    if compared:
        yield Cell(show_change(row), math.nan if row.change is None else row.change)
    yield Cell(show_spread(row.ms_per_step, digits=3), row.ms_per_step.mean)
    for spread in (row.peak_mib, row.growth_mib):
        yield Cell(f"{spread.mean:,.0f}", spread.mean)


def _plot(report: StudyReport, task: str) -> str:
    """The Pareto plot as an address that holds its content."""
    drawn = BytesIO()
    draw_pareto(report, task, drawn)
    return _address(drawn.getvalue(), "image/png")


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def samples_of(report: StudyReport, task: str, out: Path) -> Iterator[Sample]:
    """Some examples that the models of a task's first seed were scored on, side by side.

    A task that has any wrote ``samples.json`` for each model: a list of objects with a
    ``prediction``, perhaps the file name of an ``image`` beside it, and what the model had.
    """
    seed = report.seeds[0]
    found: dict[str, tuple[list[dict[str, Any]], Path]] = {}
    for trial in report.trials:
        if trial.result.task == task and trial.labels.get("seed", seed) == seed:
            folder = out / TRIALS / trial.name / "samples"
            name = ", ".join(shown(trial.labels[axis]) for axis in report.axes)
            found[name] = (_read(folder), folder)
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
