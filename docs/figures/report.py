"""Draws the main figure of a report, as `embshare report` does, from a study of WikiText-2.

python docs/figures/report.py
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Final

from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting.analysis import analyse
from embshare.tasks.studies.reporting.plot import draw_front, write_figure

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "benchmarks" / "results" / "bench" / "wikitext2.json"
SVG: Final = Path(__file__).with_suffix(".svg")


def draw() -> str:
    """The figure as SVG."""
    report = StudyReport.from_json(RESULTS.read_text(encoding="utf-8"))
    drawn = BytesIO()
    write_figure(draw_front(analyse(report, "language_modelling")), drawn, "svg")
    return drawn.getvalue().decode()


if __name__ == "__main__":
    SVG.write_text(draw(), encoding="utf-8")
