"""A study as Python has it: load a file, run it, and read what it gave as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embshare.tasks.studies.engine import run_study
from embshare.tasks.studies.folder import has_study
from embshare.tasks.studies.frame import frame_of
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.store import read_report
from embshare.tasks.studies.study_file import StudyFile

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped]

__all__ = ["Study"]


class Study(StudyFile):
    """A study that can be run.

    Raises:
        InvalidValueError: a field is unknown, an axis is empty or has a value twice, an option is
            varied twice, or a label does not exist.
    """

    def run(self, out: Path | str, *, jobs: int | None = None) -> StudyReport:
        """Do all trials that are not done yet, and write the report.

        Args:
            out: Folder of the study, new or with this study.
            jobs: Number of trials at once; ``None`` is one per core or accelerator.
        Raises:
            EmbshareError: see `run_study`.
        """
        out = Path(out)
        file = StudyFile(**dict(self))
        return run_study(file, out, jobs=jobs, resume=has_study(out))

    @staticmethod
    def frame(out: Path | str) -> DataFrame:
        """Read the trials of a folder that have ended, one row for each.

        Raises:
            NoStudyError: it holds none.
        """
        return frame_of(read_report(Path(out)))
