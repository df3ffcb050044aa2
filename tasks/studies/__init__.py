"""Studies: sets of runs on one engine, `embshare ablate` and `embshare bench` among them."""

from embshare.tasks.studies.bench import BenchmarkConfig, Method
from embshare.tasks.studies.engine import run_study, run_trials
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.study import Study
from embshare.tasks.studies.study_file import StudyFile, Trial

__all__ = [
    "BenchmarkConfig",
    "Method",
    "Study",
    "StudyFile",
    "StudyReport",
    "Trial",
    "run_study",
    "run_trials",
]
