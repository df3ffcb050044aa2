"""The folder of a benchmark: what stands where, and who may write to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.benchmark.config import CELLS
from embshare.tasks.benchmark.report import BenchmarkReport
from embshare.tasks.running.folder import RunExistsError, write_text

__all__ = ["NoBenchmarkError", "check_folder", "open_folder", "read_report", "write_report"]

RESULTS: Final = "results.json"
PAGE: Final = "report.html"
PICTURES: Final = "pareto-{}.png"


class NoBenchmarkError(EmbshareError, ValueError):
    """A folder holds no benchmark."""

    def __init__(self, *, folder: Path) -> None:
        super().__init__(
            f"`{folder}` must be a folder that `embshare bench` wrote, but has no {RESULTS}. "
            "Name the folder that was given as --out, or runs/bench."
        )
        self.folder = folder


def write_report(report: BenchmarkReport) -> None:
    """Write ``results.json``, the pictures and the page into the report's folder."""
    from embshare.tasks.benchmark.page import make_page
    from embshare.tasks.benchmark.picture import draw_pareto

    out = report.config.out
    write_text(out / RESULTS, report.to_json())
    for name in report.config.tasks:
        draw_pareto(report, name, out / PICTURES.format(name))
    write_text(out / PAGE, make_page(report))


def read_report(folder: Path) -> BenchmarkReport:
    """Read the report of a folder, wherever the folder has been moved to.

    Raises:
        NoBenchmarkError: it holds none.
        InvalidValueError: it holds one of another version.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise NoBenchmarkError(folder=folder)
    found = BenchmarkReport.from_json(path.read_text(encoding="utf-8"))
    return found.model_copy(update={"config": found.config.model_copy(update={"out": folder})})


def check_folder(out: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse what must not be written to, before any work.

    Raises:
        RunExistsError: it holds something, and neither was asked for.
        InvalidValueError: both were.
    """
    if overwrite and resume:
        fault = "`overwrite` and `resume` exclude each other: leave one out"
        raise InvalidValueError(what="benchmark", faults=[fault])
    if out.exists() and not (overwrite or resume):
        if not out.is_dir() or any(out.iterdir()):
            raise RunExistsError(folder=out)


def open_folder(out: Path, *, overwrite: bool) -> None:
    """Make the folder last, so that a benchmark which is refused leaves nothing behind."""
    if overwrite:  # what a benchmark writes, and nothing else
        shutil.rmtree(out / CELLS, ignore_errors=True)
        for pattern in (RESULTS, PAGE, PICTURES.format("*")):
            for path in out.glob(pattern):
                path.unlink()
    (out / CELLS).mkdir(parents=True, exist_ok=True)
