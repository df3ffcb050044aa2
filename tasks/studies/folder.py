"""The folder of a study: its files, and what may be replaced."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.catalogue import TASKS
from embshare.tasks.runs.config import ConfigFileError
from embshare.tasks.runs.folder import (
    ForeignFolderError,
    NoFolderError,
    RunExistsError,
    RunFolder,
    write_text,
)
from embshare.tasks.studies.frame import INDEX
from embshare.tasks.studies.record import OtherVersionError
from embshare.tasks.studies.reporting.output import report_files
from embshare.tasks.studies.study_file import FAULT, LOCK, MARK, TRIALS, StudyFile

__all__ = [
    "FAILURES",
    "ID",
    "RESULTS",
    "TASKS_FILE",
    "NoStudyError",
    "OtherStudyError",
    "StudyBusyError",
    "check_folder",
    "has_study",
    "held",
    "open_folder",
    "study_in",
]

STUDY: Final = "study.yaml"
TASKS_FILE: Final = "tasks.json"
FAILURES: Final = "failures.jsonl"
RESULTS: Final = "results.json"
ID: Final = re.compile(r"[0-9a-f]{16}")
"""Names of records, without their ending."""


class NoStudyError(EmbshareError, ValueError):
    """A folder holds no study."""

    def __init__(self, *, folder: Path) -> None:
        super().__init__(
            f"`{folder}` must be a folder that `embshare bench` or `embshare ablate` wrote, but "
            f"has no {RESULTS}. Name the folder that was given as --out, or runs/bench."
        )
        self.folder = folder


class StudyBusyError(EmbshareError, RuntimeError):
    """Two processes would run studies in one folder."""

    def __init__(self, *, folder: Path) -> None:
        super().__init__(
            f"`{folder}` must be used by one study at a time, but another process is running one "
            "in it. Wait for it, stop it (Ctrl-C: it can be resumed), or name another --out."
        )
        self.folder = folder


class OtherStudyError(EmbshareError, ValueError):
    """A study is to be resumed with other settings than it began with."""

    def __init__(self, *, folder: Path, fields: list[str]) -> None:
        super().__init__(
            f"the study in `{folder}` must be resumed as it began, or with more values on its "
            f"axes, but {', '.join(f'`{name}`' for name in fields)} changed. Put back what "
            f"{folder / STUDY} says, replace it with --overwrite, or name another --out."
        )
        self.folder, self.fields = folder, tuple(fields)


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold an existing folder against other processes.

    Raises:
        StudyBusyError: another one holds it.
    """
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StudyBusyError(folder=out) from None
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)
        lock.release()


def check_folder(study: StudyFile, out: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse what must not be written to, before any work.

    Raises:
        RunExistsError: it is no folder, or holds something and neither was asked for.
        ForeignFolderError: it holds no study, and files that one would write over.
        StudyBusyError: another process runs a study in it.
        OtherStudyError: the study that is to be resumed is another one.
        InvalidValueError: both were asked for.
    """
    if overwrite and resume:
        fault = "`overwrite` and `resume` exclude each other: leave one out"
        raise InvalidValueError(what="study", faults=[fault])
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (overwrite or resume)):
        raise RunExistsError(folder=out)
    before = _study_before(out, overwrite=overwrite)
    if before is None and (found := next(_parts(out), None)):
        raise ForeignFolderError(folder=out, found=found, needs=STUDY)
    if (out / LOCK).exists():
        with held(out):
            pass
    if resume and before is not None and (changed := study.changes_from(before)):
        raise OtherStudyError(folder=out, fields=changed)


def _study_before(out: Path, *, overwrite: bool) -> StudyFile | None:
    try:
        return study_in(out)
    except OtherVersionError:
        if overwrite:  # it is a study, whatever it says
            return StudyFile(name=out.name)
        raise


def has_study(out: Path) -> bool:
    """Whether a study was begun in a folder."""
    return study_in(out) is not None


def study_in(out: Path) -> StudyFile | None:
    """Read the study of a folder; ``None`` if it holds none.

    Raises:
        OtherVersionError: it holds one that this version cannot read.
    """
    try:
        return StudyFile.load(out / STUDY)
    except ConfigFileError:  # none, or a file that is something else
        return None
    except InvalidValueError as error:
        if not any(_records(out)):  # somebody's file of that name
            return None
        raise OtherVersionError(path=out / STUDY, finding=error.faults[0]) from error


def _records(out: Path) -> Iterator[Path]:
    return (path for path in (out / TRIALS).glob("*.json") if ID.fullmatch(path.stem))


def _runs(out: Path) -> Iterator[RunFolder]:
    runs = (RunFolder(path) for path in (out / TRIALS).glob("*") if path.is_dir())
    yield from (run for run in runs if run.is_run() or (run.root / MARK).is_file())


def _parts(out: Path) -> Iterator[Path]:
    """The files at which a study would write."""
    for run in _runs(out):
        yield from run.parts()
        yield from (path for path in map(run.root.joinpath, (MARK, FAULT)) if path.is_file())
    yield from _records(out)
    names = (STUDY, RESULTS, TASKS_FILE, FAILURES, INDEX, *report_files(TASKS))
    yield from (out / name for name in names if (out / name).is_file())


def open_folder(study: StudyFile, out: Path, *, overwrite: bool) -> None:
    """Make the folder last, so that a study which is refused leaves nothing behind.

    Args:
        study: The study, which the folder names from now on.
        out: The folder.
        overwrite: Remove what an earlier study wrote, and nothing else.
    Raises:
        NoFolderError: the system does not allow it.
    """
    if overwrite:
        runs, parts = list(_runs(out)), list(_parts(out))
        for run in runs:
            run.clear()
        for path in parts:
            path.unlink(missing_ok=True)
        for run in runs:
            if not any(run.root.iterdir()):
                run.root.rmdir()
    try:
        (out / TRIALS).mkdir(parents=True, exist_ok=True)
        write_text(out / STUDY, study.to_yaml())
    except OSError as error:
        raise NoFolderError(folder=out, finding=error.strerror or str(error)) from error
