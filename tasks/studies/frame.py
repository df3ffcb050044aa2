"""The trials of a study as a table of pandas, and as a Parquet file that it reads in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from embshare.tasks.studies.record import TrialRecord
from embshare.tasks.studies.report import StudyReport

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped]

__all__ = ["INDEX", "frame_of", "write_index"]

INDEX: Final = "index.parquet"
SIZES: Final = ("stored_parameters", "read_parameters", "hidden_parameters", "bytes")
COSTS: Final = ("steps", "seconds", "ms_per_step", "training_loss", "peak_mib")


def frame_of(report: StudyReport) -> DataFrame:
    """Make a table with one row for each trial.

    Columns are ``id``, ``name`` and ``task``; one for each axis of the study, of numbers where all
    its labels are; one for each metric; sizes and costs, as in `RunResult`; ``rate.NAME`` and
    ``solved.NAME`` where rates were searched and sizes solved; ``compared``, which is false where a
    search of rates found a better one; and ``error``, which is empty where a trial has ended well.
    A metric with the name of an axis is ``metric.NAME``.
    """
    import pandas as pd

    rows = [*_rows(report)]
    found = pd.DataFrame(rows)
    for axis in report.study.labels:
        if axis in found:
            with_numbers = pd.to_numeric(found[axis], errors="coerce")
            if with_numbers.notna().all():
                found[axis] = with_numbers
    return found


def _rows(report: StudyReport) -> Iterator[dict[str, Any]]:
    for records, compared in ((report.trials, True), (report.search, False)):
        for record in records:
            yield {**_row(record, report.study.labels), "compared": compared, "error": ""}
    for name, error in report.failed.items():
        yield {"name": name, "compared": False, "error": error}


def _row(record: TrialRecord, axes: Mapping[str, object]) -> dict[str, Any]:
    result = record.result
    metrics = {
        f"metric.{name}" if name in axes else name: value for name, value in result.metrics.items()
    }
    return {
        "id": record.id,
        "name": record.name,
        "task": result.task,
        **record.labels,
        **metrics,
        **{name: getattr(result, name) for name in (*SIZES, *COSTS)},
        **{f"rate.{name}": value for name, value in record.rates.items()},
        **{f"solved.{name}": value for name, value in record.solved.items()},
    }


def write_index(report: StudyReport, out: Path) -> None:
    """Write ``index.parquet`` into the folder of a study, replacing an earlier one at once."""
    part = out / f".{INDEX}.part"
    frame_of(report).to_parquet(part)
    part.replace(out / INDEX)
