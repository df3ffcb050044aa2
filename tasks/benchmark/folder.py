"""The folder of a benchmark: who may write to it, and how a killed run leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, final

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.benchmark.config import BenchmarkConfig, Cell
from embshare.tasks.benchmark.report import BenchmarkReport, CellRecord

__all__ = ["OutputExistsError", "OutputFolder"]

RESULTS: Final = "results.json"
CELLS: Final = "cells"
PICTURES: Final = "pareto-{}.png"


class OutputExistsError(EmbshareError, FileExistsError):
    """The folder for results holds something already."""

    def __init__(self, *, folder: Path) -> None:
        super().__init__(
            f"`{folder}` must be a new or an empty folder, but is neither. Name another with "
            "--out, replace the results in it with --overwrite, or go on with --resume."
        )
        self.folder = folder


@final
class OutputFolder:
    """The folder of one benchmark; nothing is made before `open`.

    Raises:
        OutputExistsError: it holds something, and neither ``overwrite`` nor ``resume`` was asked.
    """

    def __init__(self, config: BenchmarkConfig) -> None:
        self.root, self._resume, self._overwrite = config.out, config.resume, config.overwrite
        if self.root.exists() and not (config.overwrite or config.resume):
            if not self.root.is_dir() or any(self.root.iterdir()):
                raise OutputExistsError(folder=self.root)

    def open(self) -> None:
        """Make the folder; of earlier results, remove what a benchmark writes and nothing else."""
        (self.root / CELLS).mkdir(parents=True, exist_ok=True)
        if self._overwrite:
            for pattern in (RESULTS, f"{CELLS}/*.json", PICTURES.format("*")):
                for path in self.root.glob(pattern):
                    path.unlink()

    def finished(self, cell: Cell, fingerprint: str) -> CellRecord | None:
        """The record of a cell that an earlier run finished under the same conditions."""
        path = self._cell(cell)
        if not (self._resume and path.is_file()):
            return None
        try:
            record = CellRecord.from_json(path.read_text())
        except InvalidValueError:  # of another version, or not a record: train again
            return None
        return record if record.fingerprint == fingerprint else None

    def write_cell(self, cell: Cell, record: CellRecord) -> None:
        """Keep a record, so that a run which is stopped can be resumed."""
        _write(self._cell(cell), record.to_json())

    def write_report(self, report: BenchmarkReport) -> Path:
        """Write ``results.json``."""
        path = self.root / RESULTS
        _write(path, report.to_json())
        return path

    def picture(self, task: str) -> Path:
        """Where a task's picture goes."""
        return self.root / PICTURES.format(task)

    def _cell(self, cell: Cell) -> Path:
        return self.root / CELLS / f"{cell.name}.json"


def _write(path: Path, text: str) -> None:
    """All or nothing: whoever reads sees the old file or the new one."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)
