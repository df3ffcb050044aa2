"""Studies: grids of runs on one engine, `embshare ablate` and `embshare bench` among them."""

from embshare.tasks.studies.bench import BenchmarkConfig, Method
from embshare.tasks.studies.engine import run_study
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.study import Study, Trial

__all__ = ["BenchmarkConfig", "Method", "Study", "StudyReport", "Trial", "run_study"]
