"""What is written of a trial and of its task."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, JsonValue

from embshare._value import Record
from embshare.errors import EmbshareError
from embshare.tasks.runs.result import RunResult
from embshare.tasks.task import Metric

__all__ = ["FORMAT", "OtherVersionError", "TaskRecord", "TrialRecord"]


FORMAT: Final = 1
"""Format of a record; a later one is never replaced."""


class OtherVersionError(EmbshareError, ValueError):
    """A file of a study was written by another version, and must not be lost."""

    def __init__(self, *, path: Path, finding: str) -> None:
        super().__init__(
            f"`{path}` must be of a version that this one reads, but is not ({finding}). Use the "
            "version of embshare that wrote it, name another --out, or replace it with --overwrite."
        )
        self.path, self.finding = path, finding


class TaskRecord(Record):
    """A task, as it was run."""

    name: str
    metric: Metric
    data: dict[str, JsonValue]
    """Sources, sizes and fingerprints."""


class TrialRecord(Record):
    """The content of ``trials/ID.json``: what one trial is and what it gave."""

    format: Literal[1] = FORMAT
    id: str
    """Hash of everything that the result depends on, see `identity`."""
    name: str
    """Name of the folder of its run."""
    labels: dict[str, str]
    """Axis -> the value of this trial, as it is shown."""
    rates: dict[str, JsonValue] = Field(default_factory=dict)
    """What it tried in a search for rates, or took from one."""
    solved: dict[str, int] = Field(default_factory=dict)
    """Sizes that were solved for its budget, by name."""
    result: RunResult
