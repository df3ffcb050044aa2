"""Every architecture of a library shared, run, trained, made plain, saved and loaded."""

from embshare.tasks.coverage.examination import examine
from embshare.tasks.coverage.pool import Job, examine_all
from embshare.tasks.coverage.report import Report, Walk, regressions
from embshare.tasks.coverage.row import Row

__all__ = ["Job", "Report", "Row", "Walk", "examine", "examine_all", "regressions"]
