"""Folders of runs that `embshare train` wrote, as a report: rows are named by what differs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.runs.folder import ForeignFolderError, RunExistsError, RunFolder
from embshare.tasks.runs.result import RunResult
from embshare.tasks.studies.points import NONE
from embshare.tasks.studies.record import TaskRecord, TrialRecord
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.reporting.output import report_files, write_files
from embshare.tasks.studies.reporting.sheets import Sheet
from embshare.tasks.studies.study_file import StudyFile
from embshare.tasks.task import Metric

__all__ = ["NoRunsError", "labels_of", "read_runs", "with_absent", "write_runs"]

NAMES: Final = {"model": "arch", "share.method": "share"}
"""Field of a config -> its option in `embshare train`, where that is not the field's own name."""
LOWER: Final = ("perplexity", "loss")
"""Ends of names of metrics of which less is better."""


class NoRunsError(EmbshareError, ValueError):
    """A folder holds neither a study nor a finished run."""

    def __init__(self, *, folder: Path) -> None:
        super().__init__(
            f"`{folder}` must be a folder that `embshare ablate` or `embshare bench` wrote, or "
            "hold runs of `embshare train`, but has no results.json, and no result.json beside a "
            "config.yaml. Name the folder that was given as --out, or the one around several."
        )
        self.folder = folder


def read_runs(folders: Sequence[Path]) -> tuple[StudyReport, dict[str, Path]]:
    """Read all finished runs in some folders, at any depth, as the trials of one report.

    Returns:
        The report, whose axes are the options in which the runs differ, and the folder of each
        trial by its name.
    Raises:
        NoRunsError: a folder holds none.
        InvalidValueError: a result is of another version; a note says of which file.
    """
    results: dict[Path, RunResult] = {}
    for folder in folders:
        found = {run: _result(run) for run in _runs(folder)}
        if not found:
            raise NoRunsError(folder=folder)
        results |= found
    runs = list(results)
    labels = labels_of([_fields(results[run]) for run in runs], [_name(run) for run in runs])
    axes = {axis: tuple(dict.fromkeys(each[axis] for each in labels)) for axis in labels[0]}
    study = StudyFile(
        name=", ".join(str(folder) for folder in folders),
        axes={axis: {label: {} for label in _sorted(found)} for axis, found in axes.items()},
    )
    trials = tuple(
        TrialRecord(id="", name=str(run), labels=each, result=results[run])
        for run, each in zip(runs, labels, strict=True)
    )
    origin = results[runs[0]].provenance
    seconds = sum(result.provenance.seconds for result in results.values())
    tasks = {result.task: result for result in results.values()}
    report = StudyReport(
        study=study,
        provenance=origin.model_copy(update={"seconds": seconds}),
        tasks=tuple(
            TaskRecord(name=task, metric=_metric(result.metric), data=result.data)
            for task, result in tasks.items()
        ),
        trials=trials,
    )
    return report, {str(run): run for run in runs}


def with_absent(report: StudyReport) -> StudyReport:
    """Complete a baseline on axes that its runs do not have: a dense model has no ``tie``."""
    study, baseline = report.study, report.study.compare.baseline
    mine = [
        trial.labels
        for trial in report.trials
        if all(trial.labels.get(axis) == label for axis, label in baseline.items())
    ]
    absent = {axis: NONE for axis in study.axes if {each.get(axis) for each in mine} == {NONE}}
    if not baseline or not absent:
        return report
    compare = study.compare.model_copy(update={"baseline": absent | baseline})
    return report.model_copy(update={"study": study.model_copy(update={"compare": compare})})


def write_runs(
    report: StudyReport,
    out: Path,
    folders: Mapping[str, Path],
    *,
    overwrite: bool,
    geometry: Mapping[str, Sheet] | None = None,
) -> None:
    """Write the report of runs into a folder of its own.

    Args:
        report: As `read_runs` gives it.
        out: A new or an empty folder.
        folders: Name of a trial -> folder of its run, to which nothing is written.
        overwrite: Replace an earlier report in that folder.
        geometry: Task -> table of its embeddings' geometry, if that was measured.
    Raises:
        RunExistsError: it is no folder, or not empty.
        ForeignFolderError: it holds files that a report would write over, and that are none.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not overwrite)):
        raise RunExistsError(folder=out)
    ours = [out / name for name in report_files(task.name for task in report.tasks)]
    found = [path for path in ours if path.is_file()]
    rows = out / "rows.csv"
    if found and not (rows.is_file() and rows.read_bytes().startswith(b"task,")):
        raise ForeignFolderError(folder=out, found=found[0], needs=rows.name)
    out.mkdir(parents=True, exist_ok=True)
    write_files(report, out, folders, geometry=geometry)


def _runs(folder: Path) -> Iterator[Path]:
    """The folders of finished runs in this one, itself included."""
    for result in sorted(folder.rglob(RunFolder(folder).result.name)):
        if RunFolder(result.parent).config.is_file():
            yield result.parent


def _result(run: Path) -> RunResult:
    path = RunFolder(run).result
    try:
        return RunResult.from_json(path.read_text(encoding="utf-8"))
    except InvalidValueError as error:
        error.add_note(f"in {path}")
        raise


def _name(run: Path) -> str:
    return run.name or str(run)


def _metric(name: str) -> Metric:
    better: Any = "lower" if name.endswith(LOWER) else "higher"
    return Metric(name=name, label=name.replace("_", " "), better=better)


def _fields(result: RunResult) -> dict[str, Any]:
    """The config of a run without dots in values; a dense model's method is none."""
    found = result.config.model_dump(mode="json", exclude={"out"})
    if found["share"] is None:
        found["share"] = {"method": None}
    return dict(_flat(found))


def _flat(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def labels_of(configs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, str]]:
    """Name runs by the fields in which those of the same task differ.

    Args:
        configs: Fields with dots in their names; ``task`` and ``seed`` among them.
        names: Names of the runs, which are an axis ``run`` where nothing else tells two apart.
    Returns:
        For each run the same axes; `NONE` where a run has no such field.
    """
    varied: dict[str, None] = {}
    for task in dict.fromkeys(config["task"] for config in configs):
        mine = [config for config in configs if config["task"] == task]
        for field in dict.fromkeys(field for config in mine for field in config):
            values = {_label(config[field]) for config in mine if field in config}
            if len(values) > 1:
                varied[field] = None
    if len({config["task"] for config in configs}) > 1:
        varied = {"task": None, **varied}
    order = sorted(varied, key=lambda field: field == "seed")  # else as configs have them
    axes = _short(order)
    labels = [
        {axes[field]: _label(config[field]) if field in config else NONE for field in order}
        for config in configs
    ]
    if len({tuple(each.values()) for each in labels}) < len(labels) or not order:
        twice = Counter(names)
        unique = [n if twice[n] == 1 else f"{n} ({i})" for i, n in enumerate(names)]
        labels = [{"run": name, **each} for name, each in zip(unique, labels, strict=True)]
    return labels


def _short(fields: Sequence[str]) -> dict[str, str]:
    """The last part of each name, or as much of it as tells it from the others."""
    last = Counter(NAMES.get(field, field.rpartition(".")[2]) for field in fields)
    found = {}
    for field in fields:
        short = NAMES.get(field, field.rpartition(".")[2])
        found[field] = short if last[short] == 1 else field.removeprefix("settings.")
    return found


def _label(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _sorted(labels: Sequence[str]) -> list[str]:
    """Numbers by size, dense models first, and all else as it came."""
    try:
        return sorted(labels, key=float)
    except ValueError:
        return sorted(labels, key=lambda label: label != "none")
