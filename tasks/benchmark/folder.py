"""The folder of a benchmark: what stands where, and who may write to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.benchmark.config import CELLS
from embshare.tasks.benchmark.report import BenchmarkReport
from embshare.tasks.catalogue import TASKS
from embshare.tasks.running.folder import (
    ForeignFolderError,
    NoFolderError,
    RunExistsError,
    RunFolder,
    write_text,
)

__all__ = ["NoBenchmarkError", "check_folder", "open_folder", "read_report", "write_report"]

RESULTS: Final = "results.json"
PAGE: Final = "report.html"
PICTURES: Final = "pareto-{}.png"
CELL: Final = "*--*--*--seed*"
"""What `Cell.name` makes."""


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
        RunExistsError: it is no folder, or holds something and neither was asked for.
        ForeignFolderError: it holds no benchmark, and files that one would write over.
        InvalidValueError: both were asked for.
    """
    if overwrite and resume:
        fault = "`overwrite` and `resume` exclude each other: leave one out"
        raise InvalidValueError(what="benchmark", faults=[fault])
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (overwrite or resume)):
        raise RunExistsError(folder=out)
    if not _is_ours(out) and (found := next(_parts(out), None)):
        raise ForeignFolderError(folder=out, found=found, needs=RESULTS)


def _is_ours(out: Path) -> bool:
    """Whether a benchmark was begun in it, perhaps by an earlier version."""
    try:
        read_report(out)
    except ValueError:  # no report, or a file that is something else
        return any(cell.is_run() for cell in _cells(out))
    return True


def _cells(out: Path) -> Iterator[RunFolder]:
    yield from (RunFolder(path) for path in (out / CELLS).glob(CELL) if path.is_dir())


def _parts(out: Path) -> Iterator[Path]:
    """The files at which a benchmark would write."""
    for cell in _cells(out):
        yield from cell.parts()
    files = (out / name for name in (RESULTS, PAGE, *map(PICTURES.format, TASKS)))
    yield from (path for path in files if path.is_file())


def open_folder(out: Path, *, overwrite: bool) -> None:
    """Make the folder last, so that a benchmark which is refused leaves nothing behind.

    Raises:
        NoFolderError: the system does not allow it.
    """
    if overwrite:  # what a benchmark writes, and nothing else
        for cell in _cells(out):
            cell.clear()
            if not any(cell.root.iterdir()):
                cell.root.rmdir()
        for path in _parts(out):
            path.unlink()
    try:
        (out / CELLS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NoFolderError(folder=out, finding=error.strerror or str(error)) from error
