"""Studies that were run apart, on several machines or one seed after another, as one."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.runs.folder import RESULT, write_text
from embshare.tasks.studies.folder import check_folder, open_folder
from embshare.tasks.studies.points import Axis
from embshare.tasks.studies.report import StudyReport
from embshare.tasks.studies.store import read_report, write_report
from embshare.tasks.studies.study_file import TRIALS, StudyFile

__all__ = ["NoGridError", "UnlikeStudiesError", "join_studies"]

SHOWN: Final = ("samples", RESULT)
"""What is copied of a trial: all that a report shows. Weights stay where they are."""
NAMED: Final = 3


class UnlikeStudiesError(EmbshareError, ValueError):
    """Studies are to be joined that do not compare."""

    def __init__(self, *, first: Path, other: Path, fields: Sequence[str]) -> None:
        names = ", ".join(f"`{name}`" for name in fields)
        super().__init__(
            f"studies that are joined must have the same settings, data and code, but "
            f"`{other}` differs from `{first}` in {names}. Run one of them again as the other was."
        )
        self.first, self.other, self.fields = first, other, tuple(fields)


class NoGridError(EmbshareError, ValueError):
    """Studies are to be joined that overlap, or leave trials out."""

    def __init__(self, *, twice: Sequence[str], missing: Sequence[str]) -> None:
        faults = [
            f"{fault} {', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' * more}"
            for fault, names in (("have twice", twice), ("lack", missing))
            for more in [len(names) > NAMED]
            if names
        ]
        super().__init__(
            "studies that are joined must have each trial of the grid once, but "
            f"{', and '.join(faults)}. Leave out a folder, or run what is missing."
        )
        self.twice, self.missing = tuple(twice), tuple(missing)


def join_studies(folders: Sequence[Path], out: Path, *, overwrite: bool = False) -> StudyReport:
    """Write the report of several studies that are parts of one grid.

    They may differ in the values on their axes, and in where and how many at a time they were run.
    ``out`` has what a study writes, but for the models' weights.

    Args:
        folders: Folders of studies, at least one; the grid has its axes in their order.
        out: A new or an empty folder.
        overwrite: Replace the results of an earlier study in that folder.
    Returns:
        The report; its seconds are those of all parts.
    Raises:
        InvalidValueError: ``out`` is one of the folders.
        NoStudyError: a folder holds none.
        RunExistsError: ``out`` holds something and may not be written to.
        UnlikeStudiesError: settings, data, commits or packages differ.
        NoGridError: a trial is there twice, or missing.
    """
    if out.resolve() in (folder.resolve() for folder in folders):  # replacing it would lose it
        fault = f"`out`: must be another folder than those that are joined, but is {str(out)!r}"
        raise InvalidValueError(what="report", faults=[fault])
    parts = [read_report(folder) for folder in folders]
    for folder, part in zip(folders[1:], parts[1:], strict=True):
        if fields := _differences(parts[0], part):
            raise UnlikeStudiesError(first=folders[0], other=folder, fields=fields)
    joined = _joined(parts, out)
    check_folder(joined.study, out, overwrite=overwrite, resume=False)
    open_folder(joined.study, out, overwrite=overwrite)
    for folder, part in zip(folders, parts, strict=True):
        _copy(part, folder, out)
    write_report(joined, out)
    return joined


def _differences(one: StudyReport, other: StudyReport) -> list[str]:
    """The names of what has to be the same and is not."""
    left, right = (dict(_common(report)) for report in (one, other))
    names = [name for name in (left | right) if left.get(name) != right.get(name)]
    old, new = one.study.axes, other.study.axes
    if [*old] != [*new]:
        return [*names, "axes"]
    return names + [
        f"axes.{name}.{label}"
        for name in old
        for label, options in _named(old[name]).items()
        if _named(new[name]).get(label, options) != options
    ]


def _named(axis: Axis) -> Mapping[str, Any]:
    return axis if isinstance(axis, dict) else {}


def _common(report: StudyReport) -> Iterator[tuple[str, Any]]:
    yield "task", report.study.task
    yield from ((f"fixed.{name}", value) for name, value in report.study.fixed.items())
    yield from ((f"data of {task.name}", task.data) for task in report.tasks)
    origins = [trial.result.provenance for trial in report.trials]
    yield "commit", {(origin.commit, origin.dirty, origin.changes) for origin in origins}
    yield "packages", {tuple(sorted(origin.packages.items())) for origin in origins}


def _joined(parts: Sequence[StudyReport], out: Path) -> StudyReport:
    axes = {name: _union([part.study.axes[name] for part in parts]) for name in parts[0].study.axes}
    where = {rule.to_json(): rule for part in parts for rule in part.study.where}
    study = StudyFile(**{**dict(parts[0].study), "axes": axes, "where": tuple(where.values())})
    trials = {trial.name: trial for part in parts for trial in part.trials}
    times = Counter(trial.name for part in parts for trial in part.trials)
    names = [trial.name for trial in study.trials(out)]
    twice = [name for name, count in times.items() if count > 1]
    missing = [name for name in names if name not in trials]
    if twice or missing:
        raise NoGridError(twice=twice, missing=missing)
    seconds = sum(part.provenance.seconds for part in parts)
    return StudyReport(
        study=study,
        provenance=parts[0].provenance.model_copy(update={"seconds": seconds}),
        tasks=tuple({task.name: task for part in parts for task in part.tasks}.values()),
        trials=tuple(trials[name] for name in names),
    )


def _union(axes: Sequence[Axis]) -> Axis:
    if all(isinstance(axis, dict) for axis in axes):
        return {label: options for axis in axes for label, options in _named(axis).items()}
    return tuple({str(value): value for axis in axes for value in axis}.values())


def _copy(part: StudyReport, folder: Path, out: Path) -> None:
    for trial in part.trials:
        for path in (folder / TRIALS / trial.name / shown for shown in SHOWN):
            target = out / TRIALS / trial.name / path.name
            target.parent.mkdir(exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target)
            elif path.is_file():
                shutil.copyfile(path, target)
        write_text(out / TRIALS / f"{trial.id}.json", trial.to_json())
