"""Record the learning rates that a search of the built-in benchmark has found.

    embshare bench --search --architecture conv --out runs/rates
    python benchmarks/rates.py runs/rates

writes ``embshare/tasks/studies/rates.yaml``: for each task and method the rates of the trial that
was best on the validation set. They are searched with one architecture, and used for all three.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from embshare.tasks.runs.folder import write_text
from embshare.tasks.studies.bench import RATES
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.store import read_report


def rates_of(report: StudyReport) -> dict[str, Any]:
    """Task -> method -> rates."""
    rates: dict[str, Any] = {}
    for trial in report.trials:
        rates.setdefault(trial.labels["task"], {})[trial.labels["method"]] = dict(trial.rates)
    return rates


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="what the search wrote")
    reports = [read_report(folder) for folder in parser.parse_args().folders]
    origins = [report.provenance for report in reports]
    trials = sum(len(report.trials) + len(report.search) for report in reports)
    head = (
        "# hidden_lr of the built-in benchmark's models, the best of those that a search tried:\n"
        "# `embshare bench --search --architecture conv` at commit "
        f"{', '.join(str(origin.commit)[:10] for origin in origins)},\n"
        f"# {origins[0].started[:10]}, {trials} trials in "
        f"{sum(origin.seconds for origin in origins) / 60:.0f} minutes.\n"
    )
    rates = {task: found for report in reports for task, found in rates_of(report).items()}
    write_text(RATES, head + yaml.safe_dump(rates, sort_keys=False))
