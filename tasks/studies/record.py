"""What is written of a trial and of its task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from embshare._value import Record
from embshare.tasks.runs.result import RunResult
from embshare.tasks.task import Metric

__all__ = ["TaskRecord", "TrialRecord"]


class TaskRecord(Record):
    """A task, as it was run."""

    name: str
    metric: Metric
    data: dict[str, JsonValue]
    """Sources, sizes and fingerprints."""


class TrialRecord(Record):
    """The content of ``trials/ID.json``: what one trial is and what it gave."""

    format: Literal[1] = 1
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
