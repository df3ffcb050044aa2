"""What a study has written by now: records, failures, tasks, and the report that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from embshare._value import Record
from embshare.tasks.measurement.provenance import Provenance
from embshare.tasks.runs.folder import write_text
from embshare.tasks.studies.folder import (
    FAILURES,
    ID,
    RESULTS,
    TASKS_FILE,
    NoStudyError,
    study_in,
)
from embshare.tasks.studies.frame import write_index
from embshare.tasks.studies.record import TaskRecord, TrialRecord
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting.output import write_files
from embshare.tasks.studies.reporting.sheets import Sheet
from embshare.tasks.studies.search import chosen
from embshare.tasks.studies.study_file import MARK, TRIALS, StudyFile

__all__ = [
    "Failure",
    "busy_seconds",
    "failures_in",
    "made_report",
    "note_failure",
    "read_records",
    "read_report",
    "read_tasks",
    "write_report",
    "write_tasks",
]


class Failure(Record):
    """A line of ``failures.jsonl``: a trial that failed, when, and why."""

    name: str
    error: str
    """First line of the error; ``error.txt`` in the trial's folder has all of it."""
    when: str
    """UTC, ISO 8601."""


class _Tasks(Record):
    """The content of ``tasks.json``."""

    format: Literal[1] = 1
    tasks: tuple[TaskRecord, ...]


def note_failure(name: str, error: Exception, out: Path) -> str:
    """Append a trial's error to ``failures.jsonl``, and return its first line."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    when = datetime.now(UTC).isoformat(timespec="seconds")
    with (out / FAILURES).open("a", encoding="utf-8") as file:
        file.write(Failure(name=name, error=line, when=when).model_dump_json() + "\n")
    return line


def write_tasks(tasks: Sequence[TaskRecord], out: Path) -> None:
    """Write what the tasks of a study are compared by, before any trial has ended."""
    write_text(out / TASKS_FILE, _Tasks(tasks=tuple(tasks)).to_json())


def read_tasks(out: Path) -> tuple[TaskRecord, ...]:
    """Read what `write_tasks` wrote; nothing where nothing was."""
    path = out / TASKS_FILE
    return _Tasks.from_json(path.read_text(encoding="utf-8")).tasks if path.is_file() else ()


def write_report(
    report: StudyReport, out: Path, *, geometry: Mapping[str, Sheet] | None = None
) -> None:
    """Write ``results.json``, the index, and what `write_files` makes of the report.

    Args:
        report: The report.
        out: Folder of the study.
        geometry: Task -> table of its embeddings' geometry, if that was measured.
    Raises:
        InvalidValueError: trials have no metric of the name that the study compares by.
    """
    write_text(out / RESULTS, report.to_json())
    write_index(report, out)
    folders = {trial.name: out / TRIALS / trial.name for trial in report.trials}
    write_files(report, out, folders, geometry=geometry)


def read_report(folder: Path) -> StudyReport:
    """Read what a folder holds by now, of a study that has ended or not.

    Raises:
        NoStudyError: it holds none, or no trial of it has ended.
        InvalidValueError: it holds one of another version.
    """
    path = folder / RESULTS
    study = study_in(folder)
    if study is not None and (tasks := read_tasks(folder)):
        records = [*read_records(study, folder)]
        if records:
            return made_report(study, tasks, records, failures_in(folder, study, records))
    if not path.is_file():
        raise NoStudyError(folder=folder)
    return StudyReport.from_json(path.read_text(encoding="utf-8"))


def read_records(study: StudyFile, folder: Path) -> Iterator[TrialRecord]:
    """Read the records of a study's trials that have ended, in the study's order.

    A record counts where the trial's folder has been used for nothing else since.
    """
    for trial in study.trials(folder):
        mark = trial.config.out / MARK
        own = mark.read_text(encoding="utf-8").strip() if mark.is_file() else ""
        path = folder / TRIALS / f"{own}.json"
        if ID.fullmatch(own) and path.is_file():
            found = TrialRecord.from_json(path.read_text(encoding="utf-8"))
            yield found.model_copy(update={"name": trial.name, "labels": dict(trial.labels)})


def failures_in(folder: Path, study: StudyFile, records: Sequence[TrialRecord]) -> dict[str, str]:
    """Return the last error of each trial that has failed and has not ended well since."""
    if not (folder / FAILURES).is_file():
        return {}
    lines = (folder / FAILURES).read_text(encoding="utf-8").splitlines()
    found = {failure.name: failure.error for failure in map(Failure.from_json, lines)}
    ended = {record.name for record in records}
    return {n: error for n, error in found.items() if n not in ended}


def made_report(
    study: StudyFile,
    tasks: Sequence[TaskRecord],
    records: Sequence[TrialRecord],
    failed: Mapping[str, str],
    *,
    provenance: Provenance | None = None,
) -> StudyReport:
    """Make the report of some records: of each search for rates the best trial is compared.

    Args:
        study: The study.
        tasks: Its tasks, perhaps more than have ended.
        records: Trials that have ended, in the study's order; at least one.
        failed: Trial -> error.
        provenance: ``None`` is that of the first record, with the time in which any was trained.
    """
    compared, search = chosen(records, tasks)
    if provenance is None:
        first = records[0].result.provenance
        provenance = first.model_copy(update={"seconds": busy_seconds(records)})
    ended = {record.result.task for record in records}
    return StudyReport(
        study=study,
        provenance=provenance,
        tasks=tuple(task for task in tasks if task.name in ended),
        trials=tuple(compared),
        search=tuple(search),
        failed=dict(failed),
    )


def busy_seconds(records: Sequence[TrialRecord]) -> float:
    """How long at least one of some trials went on, however many did so at once."""
    seconds, until = 0.0, 0.0
    spans = sorted(
        (datetime.fromisoformat(found.started).timestamp(), found.seconds)
        for found in (record.result.provenance for record in records)
    )
    for start, length in spans:
        end = start + length
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds
