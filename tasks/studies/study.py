"""A study: what is varied, what is held fixed, and the trials that this makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias

import yaml
from pydantic import Field, JsonValue, field_validator, model_validator

from embshare._value import Value
from embshare.errors import InvalidValueError
from embshare.tasks.runs.config import RunConfig, read_yaml
from embshare.tasks.runs.result import RunResult
from embshare.tasks.studies.options import run_config

__all__ = ["FAULT", "MARK", "TRIALS", "Axis", "Compare", "Study", "Trial"]

Options: TypeAlias = dict[str, JsonValue]
Axis: TypeAlias = tuple[JsonValue, ...] | dict[str, Options]
"""Values of one option; or named sets of options, for what is varied together."""

TRIALS: Final = "trials"
MARK: Final = "id.txt"
"""File in the folder of a trial's run, with the ID of the trial that it was begun for."""
FAULT: Final = "error.txt"
"""File in the folder of a trial's run, with the traceback of what it failed at."""
LONGEST: Final = 120  # characters of a folder's name: file systems take 255 bytes


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One model that is trained, or one measurement of a model that was."""

    labels: Mapping[str, str]
    """Axis -> the value that this trial has on it, as it is shown."""
    config: RunConfig
    """What is run; its ``out`` is the trial's own folder."""
    needs: tuple[str, ...] = ()
    """Names of the trials that must have ended before, whose folders `config` refers to."""
    work: Callable[[RunConfig, bool], RunResult] | None = None
    """What is done with the config, and with whether this trial had begun before; a value whose
    ``repr`` says all of it and that other processes can unpickle. ``None`` trains and evaluates."""

    @property
    def name(self) -> str:
        """Name within the study, and of the folder of its run."""
        return self.config.out.name


class Compare(Value):
    """How the trials of a study are compared."""

    metric: str | None = None
    """Name of the metric; ``None`` is the one that the task compares by."""
    better: Literal["lower", "higher"] | None = None
    """Which way `metric` is better; ``None`` is as for the metric that the task compares by."""
    baseline: dict[str, str] = Field(default_factory=dict)
    """Axis -> label of the trials that others are compared with, on all other axes the same."""


class Study(Value):
    """A grid of runs, as a study file says it.

    Options are named as in `embshare train`, with underscores; see
    `embshare.tasks.studies.options.run_config`.

    Raises:
        InvalidValueError: a field is unknown, or an axis is empty or has a value twice.
    """

    name: str
    """Name of the study, the heading of its report."""
    task: str | None = None
    """Task of all trials, where no axis says it."""
    fixed: Options = Field(default_factory=dict)
    """Options of all trials."""
    axes: dict[str, Axis] = Field(default_factory=dict)
    """What is varied: all values of all axes are crossed. An axis is a list of values of the option
    that it is named by, or a mapping of labels to sets of options. An axis ``seed`` is what means
    and standard deviations are over."""
    compare: Compare = Compare()

    @field_validator("axes")
    @classmethod
    def _some_and_each_once(cls, axes: dict[str, Axis]) -> dict[str, Axis]:
        for name, axis in axes.items():
            labels = list(_points(name, axis))
            if not labels or len({label for label, _ in labels}) < len(labels):
                raise ValueError(f"`{name}` must have a value, and each value once")
        return axes

    @model_validator(mode="after")
    def _baseline_on_axes(self) -> Study:
        for axis, label in self.compare.baseline.items():
            known = self.labels.get(axis)
            if known is None or label not in known:
                where = "the axes " + ", ".join(self.axes) if known is None else ", ".join(known)
                wrong = axis if known is None else label
                raise ValueError(f"`compare.baseline`: {wrong!r} must be one of {where}")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a study file (YAML).

        Raises:
            ConfigFileError: not a YAML file with a mapping.
            InvalidValueError: a field is unknown or out of range; a note says the file.
        """
        try:
            return cls(**read_yaml(path))
        except InvalidValueError as error:
            error.add_note(f"in {path}")
            raise

    def to_yaml(self) -> str:
        """This study as a file that `load` reads back equal."""
        fields = self.model_dump(mode="json", exclude_defaults=True)
        text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
        return text

    def changes_from(self, before: Study) -> list[str]:
        """The fields, with dots between, in which this is another study than one that has begun.

        More values on an axis are none, nor are another name or another way of comparing.
        """
        axes = {name: dict(_points(name, axis)) for name, axis in self.axes.items()}
        old = {name: dict(_points(name, axis)) for name, axis in before.axes.items()}
        changed = ["task"] if self.task != before.task else []
        changed += [f"fixed.{name}" for name in _differing(self.fixed, before.fixed)]
        for name in sorted(axes.keys() | old.keys()):
            if name not in axes or name not in old:
                changed.append(f"axes.{name}")
            else:
                gone = {n: axes[name].get(n) for n in old[name]}
                changed += [f"axes.{name}.{label}" for label in _differing(gone, old[name])]
        return changed

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Axis -> the labels of its values, in their order."""
        return {
            name: tuple(label for label, _ in _points(name, axis))
            for name, axis in self.axes.items()
        }

    def trials(self, out: Path) -> tuple[Trial, ...]:
        """All points of the grid, those of one seed before those of the next.

        Args:
            out: Folder of the study.
        Raises:
            InvalidValueError: an option is unknown or a value out of range; a note says of which
                trial.
        """
        axes = sorted(self.axes, key=lambda name: name != "seed")  # else as they are given
        points = product(*(_points(name, self.axes[name]) for name in axes))
        return tuple(self._trial(dict(zip(axes, point, strict=True)), out) for point in points)

    def _trial(self, point: Mapping[str, tuple[str, Options]], out: Path) -> Trial:
        chosen = {axis: point[axis] for axis in self.axes}  # in the order of the file
        labels = {axis: label for axis, (label, _) in chosen.items()}
        options: dict[str, Any] = {} if self.task is None else {"task": self.task}
        for given in (self.fixed, *(options for _, options in chosen.values())):
            options = {n: v for n, v in options.items() if n not in given} | given
        try:
            config = run_config(options, out / TRIALS / _folder(labels))
        except InvalidValueError as error:
            error.add_note(f"in the trial {_shown(labels)}")
            raise
        return Trial(labels=labels, config=config)


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    names = sorted(one.keys() | other.keys())
    return [name for name in names if one.get(name) != other.get(name)]


def _points(name: str, axis: Axis) -> Iterator[tuple[str, Options]]:
    """The labels of an axis with their options."""
    if isinstance(axis, dict):
        yield from axis.items()
    else:
        yield from ((_label(value), {name: value}) for value in axis)


def _label(value: JsonValue) -> str:
    """A value as it is shown; of a mapping its fields."""
    if isinstance(value, dict):
        return " ".join(f"{name}={_label(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ",".join(map(_label, value))
    words = {None: "none", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _folder(labels: Mapping[str, str]) -> str:
    """A name for a folder: the labels of words, and names with the labels of numbers.

    What file systems do not take is replaced, and a hash of the labels tells such names apart.
    """
    parts = (label if label[:1].isalpha() else f"{axis}{label}" for axis, label in labels.items())
    name = "--".join(parts) or "run"
    found = re.sub(r"[^\w.=,-]+", "_", name)[:LONGEST]
    return found if found == name else f"{found}-{sha256(name.encode()).hexdigest()[:8]}"


def _shown(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in labels.items())
