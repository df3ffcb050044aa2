"""What a report writes: figures that are the same each time, Markdown, CSV, and nothing else."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting.analysis import analyse
from embshare.tasks.studies.reporting.output import report_files, write_files
from embshare.tasks.studies.reporting.plot import (
    COLOURS,
    MARKERS,
    draw_curves,
    draw_front,
    styles_of,
)
from embshare.tasks.studies.reporting.sheets import Cell, Sheet
from embshare.tasks.studies.study_file import TRIALS
from tests.integration.tasks.studies.conftest import LM, with_first_metric


@pytest.fixture
def folders(report: StudyReport, out: Path) -> dict[str, Path]:
    """Runs with curves; to some of them something happened."""
    found = {trial.name: out / TRIALS / trial.name for trial in report.trials}
    for number, (name, folder) in enumerate(found.items()):
        folder.mkdir(parents=True)
        points = [f'{{"step": {n}, "loss": {9 - n / 9 + number / 9}}}' for n in range(1, 300)]
        text = "[" + ", ".join(points) + "]"
        (folder / "curve.json").write_text(text if "lstm" not in name else "[")
    return found


def test_reading_writes_the_report_files_and_nothing_else(
    report: StudyReport, out: Path, folders: dict[str, Path]
) -> None:
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    geometry = Sheet(title="Geometry", head=("a|b",), words=1, rows=((Cell("x_y", "x"),),))
    write_files(report, out, folders, geometry={LM: geometry})
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    written = {path.relative_to(out).as_posix() for path in after.keys() - before.keys()}
    assert written == set(report_files([LM]))
    markdown = (out / "report.md").read_text()
    linked = re.findall(r"!\[.*\]\((.*)\)", markdown)
    assert len(linked) == 4 and all((out / path).is_file() for path in linked)
    assert "| a\\|b |\n| --- |\n| x\\_y |" in markdown
    widths = {line.count("|") - line.count("\\|") for line in markdown.splitlines() if "|" in line}
    assert min(widths) > 1
    with (out / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["mean"] for row in rows[:4]] == ["151.0", "151.0", "151.0", "131.0"]
    write_files(report, out, folders, geometry={LM: geometry})
    again = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert again == after, "a report that is drawn again is the same"


def drawn(report: StudyReport, path: Path) -> Image.Image:
    """The main figure as an image in grey."""
    draw_front(analyse(report, LM)).savefig(path, dpi=60)
    return Image.open(path).convert("L")


def test_a_figure_is_drawn_for_one_seed_and_for_diverged_models(
    report: StudyReport, tmp_path: Path
) -> None:
    whole = drawn(report, tmp_path / "whole.png")
    bad = with_first_metric(report, float("inf"))
    one = bad.model_copy(update={"trials": bad.trials[:2]})
    assert drawn(one, tmp_path / "one.png").size[0] > 100
    none = with_first_metric(report, *[float("nan")] * len(report.trials))
    drawn(none, tmp_path / "none.png")
    other = drawn(with_first_metric(report, 200.0, 210.0), tmp_path / "other.png")
    assert whole.size == other.size and ImageChops.difference(whole, other).getbbox()


def test_methods_differ_by_marker_and_not_by_colour_alone(report: StudyReport) -> None:
    styles = styles_of(analyse(report, LM))
    assert list(styles) == ["dense", "eps", "veps"]
    assert len({marker for _, marker in styles.values()}) == 3
    pairs = {(COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]) for n in range(77)}
    assert len(pairs) == 77


def test_curves_are_of_rows_that_have_one(report: StudyReport, folders: dict[str, Path]) -> None:
    figure = draw_curves(analyse(report, LM), folders)
    assert figure is not None
    lines = figure.axes[0].lines
    assert len(lines) == 6 and max(np.size(line.get_xdata()) for line in lines) <= 120
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == 6
    assert draw_curves(analyse(report, LM), {}) is None
