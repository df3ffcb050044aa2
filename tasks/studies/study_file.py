"""What a study file says: what is varied, what is held fixed, and the trials that this makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

import yaml
from pydantic import ConfigDict, Field, JsonValue, field_validator, model_validator

from embshare._value import Value
from embshare.errors import InvalidValueError
from embshare.tasks.runs.config import RunConfig, naming_lines, read_yaml
from embshare.tasks.runs.result import RunResult
from embshare.tasks.studies.budget import Budget, sized
from embshare.tasks.studies.options import check_option, run_config
from embshare.tasks.studies.points import (
    NONE,
    Axis,
    Draws,
    Options,
    Point,
    axis_points,
    crossed,
    label_of,
    points_of,
)

__all__ = [
    "FAULT",
    "FIRST",
    "LOCK",
    "MARK",
    "STAGE",
    "TRIALS",
    "Compare",
    "Stage",
    "StudyFile",
    "Trial",
    "Where",
]

TRIALS: Final = "trials"
LOCK: Final = ".lock"
"""File that a process holds which uses the folder."""
MARK: Final = "id.txt"
"""File in the folder of a trial's run, with the ID of the trial that it was begun for."""
FAULT: Final = "error.txt"
"""File in the folder of a trial's run, with the traceback of what it failed at."""
LONGEST: Final = 120  # characters of a folder's name: file systems take 255 bytes
STAGE: Final = "stage"
"""Axis of a study with stages."""
FIRST: Final = "first"
"""Label, on that axis, of the trials that start from no other."""
SEED: Final = "seed"
BUDGET: Final = "budget"

Rates: TypeAlias = dict[str, Annotated[tuple[JsonValue, ...], Field(min_length=1)]]
Groups: TypeAlias = Mapping[frozenset[tuple[str, str]], Sequence["Trial"]]
"""Labels of a point -> its trial, or all that are tried for it."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One model that is trained, or one measurement of a model that was."""

    labels: Mapping[str, str]
    """Axis -> the value that this trial has on it, as it is shown."""
    config: RunConfig
    """What is run; its ``out`` is the trial's own folder. What is known only when others have
    ended is not in it yet, see `settled`."""
    needs: tuple[str, ...] = ()
    """Names of the trials that must have ended before."""
    work: Callable[[RunConfig, bool], RunResult] | None = None
    """What is done with the config, and with whether this trial had begun before; a value whose
    ``repr`` says all of it and that other processes can unpickle. ``None`` trains and evaluates."""
    options: Mapping[str, JsonValue] = field(default_factory=dict)
    """Options that the config is made of; none where it was given as it is."""
    budget: Budget | None = None
    """What the model may take; its free size is solved for it before it is trained."""
    solved: Mapping[str, int] = field(default_factory=dict)
    """Sizes that were solved for it, by name."""
    rates: Mapping[str, JsonValue] = field(default_factory=dict)
    """What this trial tries in a search for rates, or took from one."""
    tuned: tuple[str, ...] = ()
    """Names of the trials of a search; this one takes the rates of the best of them."""
    starts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Option -> names of trials; its value is the folder of the best of them."""

    alike: tuple[str, ...] = ()
    """Names of trials; the best of them decides the budget, see `Budget.like`."""

    @property
    def name(self) -> str:
        """Name within the study, and of the folder of its run."""
        return self.config.out.name

    def settled(
        self,
        best: Callable[[tuple[str, ...]], Trial],
        bytes_of: Callable[[tuple[str, ...]], int],
    ) -> Trial:
        """Return this trial with all that depends on others.

        Args:
            best: Names of trials that ended -> the best of them.
            bytes_of: Names of trials that ended -> bytes of the best one's files.
        Raises:
            InvalidValueError: an option cannot have that value.
        """
        if self.alike:
            assert self.budget is not None
            budget = Budget(bytes=bytes_of(self.alike), free=self.budget.free)
            return replace(self, budget=budget, alike=()).settled(best, bytes_of)
        if not self.starts and not self.tuned:
            return self
        rates = dict(best(self.tuned).rates) if self.tuned else {}
        found = {option: _folder_for(option, best(names)) for option, names in self.starts.items()}
        options = {**self.options, **rates, **found}
        config = run_config(options, self.config.out)
        for free, value in self.solved.items():
            config = sized(config, free, value)
        return replace(self, config=config, options=options, rates=rates or self.rates)


class Compare(Value):
    """How the trials of a study are compared."""

    metric: str | None = None
    """Name of the metric; ``None`` is the one that the task compares by."""
    better: Literal["lower", "higher"] | None = None
    """Which way `metric` is better; ``None`` is as for the metric that the task compares by."""
    baseline: dict[str, str] = Field(default_factory=dict)
    """Axis -> label of the trials that others are compared with, on all other axes the same."""

    @field_validator("baseline", mode="before")
    @classmethod
    def _as_shown(cls, given: Any) -> Any:
        """Take values as they are written on axes: ``{share: {method: veps}, width: 32}``."""
        return {k: label_of(v) for k, v in given.items()} if isinstance(given, dict) else given


class Where(Value):
    """Options of some points alone.

    Raises:
        InvalidValueError: a field is unknown.
    """

    labels: dict[str, str]
    """Axis -> label: the points that have all of these."""
    options: Options
    """Their options, which override those of their axes."""

    @field_validator("labels", mode="before")
    @classmethod
    def _as_shown(cls, given: Any) -> Any:
        return {k: label_of(v) for k, v in given.items()} if isinstance(given, dict) else given


class Stage(Value):
    """Trials that start from each trial of a study when it has ended.

    Raises:
        InvalidValueError: a field is unknown, or an axis is empty.
    """

    task: str | None = None
    """Task; ``None`` is the study's."""
    start: str = "start"
    """Option that takes the folder of the trial before: ``start`` continues with its model, GLUE's
    ``init_from`` fine-tunes it, ``teacher`` distils it, ``model`` takes a folder of
    transformers."""
    fixed: Options = Field(default_factory=dict)
    """Options of all trials of this stage; those of the study are not taken over."""
    axes: dict[str, Axis] = Field(default_factory=dict)
    """What is varied within this stage, crossed with the trials before."""

    @field_validator("axes")
    @classmethod
    def _some_and_each_once(cls, axes: dict[str, Axis]) -> dict[str, Axis]:
        return _each_once(axes)

    @property
    def parts(self) -> list[list[Point]]:
        """The points of each axis."""
        return points_of(self.axes, {}, (), None)


class StudyFile(Value):
    """A set of runs.

    Options are named as in `embshare train`, with underscores; see
    `embshare.tasks.studies.options.run_config`. ``axes``, ``zip``, ``list`` and ``random`` are
    crossed with each other.

    Raises:
        InvalidValueError: a field is unknown, an axis is empty or has a value twice, an option is
            varied twice, or a label does not exist.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    name: str
    """Name of the study, the heading of its report."""
    task: str | None = None
    """Task of all trials, where no axis says it."""
    fixed: Options = Field(default_factory=dict)
    """Options of all trials."""
    repeats: Annotated[int, Field(ge=1)] | None = None
    """Number of seeds, from 0, in place of an axis ``seed``."""
    axes: dict[str, Axis] = Field(default_factory=dict)
    """What is varied: all values of all axes are crossed. An axis is a list of values of the option
    that it is named by, or a mapping of labels to sets of options. An axis ``seed`` is what means
    and intervals are over."""
    zipped: dict[str, tuple[JsonValue, ...]] = Field(default_factory=dict, alias="zip")
    """Options that are varied together: the first values of all, the second of all ..."""
    listed: tuple[Options, ...] = Field(default=(), alias="list")
    """Single points, each a set of options."""
    random: Draws | None = None
    """Points whose options are drawn at random."""
    where: tuple[Where, ...] = ()
    """Options of some points alone: of one method with one architecture, say."""
    budget: Budget | None = None
    """What each model may take; its free size is solved for it. An axis ``budget`` varies it."""
    rates: Rates = Field(default_factory=dict)
    """Option -> values: for each point all combinations are tried with the first seed, and those
    that are best on the validation set are taken for all other seeds."""
    needs: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Option -> axis -> label: the option's value is the folder of the trial that has these labels
    and on all other axes the same, as in ``{teacher: {share: none}}``. That trial itself goes
    without."""
    then: dict[str, Stage] = Field(default_factory=dict)
    """Name -> trials that start from each of the trials above."""
    compare: Compare = Compare()

    @field_validator("axes")
    @classmethod
    def _some_and_each_once(cls, axes: dict[str, Axis]) -> dict[str, Axis]:
        return _each_once(axes)

    @field_validator("budget", mode="before")
    @classmethod
    def _as_written(cls, given: Any) -> Any:
        return None if given is None else Budget.of(given)

    @field_validator("zipped")
    @classmethod
    def _as_many(cls, zipped: dict[str, tuple[JsonValue, ...]]) -> dict[str, tuple[JsonValue, ...]]:
        lengths = {name: len(values) for name, values in zipped.items()}
        if len(set(lengths.values())) > 1 or 0 in lengths.values():
            found = ", ".join(f"`{name}` has {count}" for name, count in lengths.items())
            raise ValueError(f"must have as many values of each option, at least one; {found}")
        return zipped

    @field_validator("needs", mode="before")
    @classmethod
    def _as_shown(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            name: {k: label_of(v) for k, v in labels.items()}
            if isinstance(labels, dict)
            else labels
            for name, labels in given.items()
        }

    @model_validator(mode="after")
    def _each_option_once(self) -> Self:
        parts: dict[str, Collection[str]] = {
            "axes": self.axes,
            "zip": self.zipped,
            "list": dict.fromkeys(name for options in self.listed for name in options),
            "random": self.random.options if self.random else {},
            "rates": self.rates,
            "repeats": dict.fromkeys([SEED] * (self.repeats is not None)),
            "budget": dict.fromkeys([BUDGET] * (self.budget is not None)),
            "then": dict.fromkeys([STAGE] * bool(self.then)),
        }
        places: dict[str, str] = {}
        for part, names in parts.items():
            for name in names:
                if name in places:
                    raise ValueError(
                        f"`{name}` must be varied once, but is by `{places[name]}` and by `{part}`"
                    )
                places[name] = part
        return self

    @model_validator(mode="after")
    def _labels_exist(self) -> Self:
        labels = self.labels
        wanted = {"compare.baseline": self.compare.baseline}
        wanted |= {f"needs.{option}": found for option, found in self.needs.items()}
        wanted |= {f"where.{n}.labels": rule.labels for n, rule in enumerate(self.where)}
        for place, found in wanted.items():
            for axis, label in found.items():
                if axis not in labels:
                    known = ", ".join(labels) or "none"
                    raise ValueError(f"`{place}`: {axis!r} must be one of the axes {known}")
                if label not in labels[axis]:
                    known = ", ".join(labels[axis])
                    raise ValueError(f"`{place}`: {label!r} must be one of {known}")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a study file (YAML).

        Raises:
            ConfigFileError: not a YAML file with a mapping.
            InvalidValueError: a field is unknown or out of range; a note says file and line.
        """
        fields = read_yaml(path)
        with naming_lines(path):
            return cls(**fields)

    def to_yaml(self) -> str:
        """Return this study as a file that `load` reads back equal."""
        fields = self.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
        return text

    def changes_from(self, before: StudyFile) -> list[str]:
        """List the fields, with dots between, in which this is another study than one begun before.

        More points, rates or stages are none, nor are another name or another way of comparing.
        """
        changed = [
            name for name in ("task", "budget", "needs", "where") if _other(self, before, name)
        ]
        changed += [f"fixed.{name}" for name in _differing(self.fixed, before.fixed)]
        changed += [f"axes.{name}" for name in _lost(self._axes, before._axes)]
        changed += [f"rates.{name}" for name in _lost(self.rates, before.rates)]
        rows = [[*zip(*each.zipped.values(), strict=True)] for each in (self, before)]
        changed += ["zip"] * (
            self.zipped.keys() != before.zipped.keys() or any(row not in rows[0] for row in rows[1])
        )
        changed += ["list"] * any(options not in self.listed for options in before.listed)
        changed += ["random"] * (not _grown(self.random, before.random))
        for name, stage in before.then.items():
            now = self.then.get(name)
            if now is None or any(_other(now, stage, each) for each in ("task", "start", "fixed")):
                changed.append(f"then.{name}")
            else:
                changed += [f"then.{name}.axes.{each}" for each in _lost(now.axes, stage.axes)]
        return [*changed, *(["then"] * (bool(self.then) != bool(before.then)))]

    @property
    def _axes(self) -> dict[str, Axis]:
        seeds = {} if self.repeats is None else {SEED: tuple[JsonValue, ...](range(self.repeats))}
        return {**self.axes, **seeds}

    @property
    def _parts(self) -> list[list[Point]]:
        return points_of(self._axes, self.zipped, self.listed, self.random)

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Axis -> the labels of its values, in their order."""
        found: dict[str, dict[str, None]] = {}
        for point in (point for part in self._parts for point in part):
            for axis, label in point.labels.items():
                found.setdefault(axis, {})[label] = None
        if self.then:
            found[STAGE] = dict.fromkeys((FIRST, *self.then))
        for stage in self.then.values():
            for point in (point for part in stage.parts for point in part):
                for axis, label in point.labels.items():
                    found.setdefault(axis, {NONE: None})[label] = None
        return {axis: tuple(labels) for axis, labels in found.items()}

    def trials(self, out: Path) -> tuple[Trial, ...]:
        """Make all trials, those of one seed before those of the next.

        Args:
            out: Folder of the study.
        Raises:
            InvalidValueError: an option is unknown or a value out of range; a note says of which
                trial.
        """
        labels = self.labels
        seeds = labels.get(SEED, ("",))
        parts = sorted(self._parts, key=lambda part: SEED not in part[0].labels)
        groups: dict[frozenset[tuple[str, str]], list[Trial]] = {}
        for point in crossed(parts):
            ordered = {axis: point.labels[axis] for axis in labels if axis in point.labels}
            group = self._tried(Point(ordered, point.options), seeds[0], out)
            groups[frozenset(point.labels.items())] = group
        for key, group in groups.items():
            groups[key] = [self._with_needs(trial, key, groups) for trial in group]
        first = [trial for group in groups.values() for trial in group]
        then = (trial for name in self.then for trial in self._stage(name, groups, out))
        absent = {axis: FIRST if axis == STAGE else NONE for axis in labels}
        return tuple(
            replace(trial, labels={axis: trial.labels.get(axis, absent[axis]) for axis in labels})
            for trial in (*first, *then)
        )

    def _tried(self, point: Point, first: str, out: Path) -> list[Trial]:
        """The trial of a point; with `rates` and the first seed, all that are tried for it."""
        labels = point.labels
        options: dict[str, Any] = {} if self.task is None else {"task": self.task}
        own = [rule.options for rule in self.where if rule.labels.items() <= labels.items()]
        for given in (self.fixed, point.options, *own):
            options = {n: v for n, v in options.items() if n not in given} | dict(given)
        budget = Budget.of(options.pop(BUDGET)) if options.get(BUDGET) else self.budget
        options.pop(BUDGET, None)
        if not self.rates:
            return [_trial(labels, options, out, budget)]
        combined = product(*self.rates.values())
        tried = [dict(zip(self.rates, found, strict=True)) for found in combined]
        if labels.get(SEED, first) == first:
            return [_trial(labels, options, out, budget, rates) for rates in tried]
        names = tuple(_folder({**labels, SEED: first}, rates) for rates in tried)
        trial = _trial(labels, {**options, **tried[0]}, out, budget)
        return [replace(trial, needs=names, tuned=names)]

    def _with_needs(self, trial: Trial, key: frozenset[tuple[str, str]], groups: Groups) -> Trial:
        for option, labels in self.needs.items():
            wanted = frozenset({**dict(key), **labels}.items())
            if wanted != key:
                trial = _starting(trial, option, groups[wanted])
        if trial.budget is not None and trial.budget.like is not None:
            names = tuple(other.name for other in self._alike(trial.budget.like, key, groups))
            trial = replace(trial, needs=(*trial.needs, *names), alike=names)
        return trial

    @staticmethod
    def _alike(
        labels: Mapping[str, str], key: frozenset[tuple[str, str]], groups: Groups
    ) -> Sequence[Trial]:
        """The trials whose size is a budget."""
        wanted = frozenset({**dict(key), **labels}.items())
        if wanted == key or wanted not in groups:
            found = "are its own" if wanted == key else "no trial has"
            fault = (
                f"`budget.like`: must be labels of another trial, but {label_of(dict(labels))!r} "
            )
            raise InvalidValueError(what="study", faults=[f"{fault}{found}"])
        return groups[wanted]

    def _stage(self, name: str, groups: Groups, out: Path) -> Iterator[Trial]:
        stage = self.then[name]
        for before, point in product(groups.values(), crossed(stage.parts)):
            labels = {**before[0].labels, STAGE: name, **point.labels}
            seed = before[0].config.seed
            options: dict[str, Any] = {
                **({} if (task := stage.task or self.task) is None else {"task": task}),
                **({SEED: seed} | stage.fixed | dict(point.options)),
            }
            budget = options.pop(BUDGET, None)
            found = None if budget is None else Budget.of(budget)
            if found is not None and found.like is not None:
                fault = f"`then.{name}.budget.like`: must be left out of stages: name bytes"
                raise InvalidValueError(what="study", faults=[fault])
            yield _starting(_trial(labels, options, out, found), stage.start, before)


def _trial(
    labels: Mapping[str, str],
    options: Mapping[str, Any],
    out: Path,
    budget: Budget | None,
    rates: Mapping[str, JsonValue] | None = None,
) -> Trial:
    rates = rates or {}
    options = {**options, **rates}
    try:
        config = run_config(options, out / TRIALS / _folder(labels, rates))
    except InvalidValueError as error:
        error.add_note(f"in the trial {_shown({**labels, **rates})}")
        raise
    return Trial(labels=labels, config=config, options=options, budget=budget, rates=rates)


def _starting(trial: Trial, option: str, before: Sequence[Trial]) -> Trial:
    """A trial that takes the folder of another, or of the best of some, as an option."""
    check_option(option, trial.config.task)
    names = tuple(each.name for each in before)
    return replace(trial, needs=(*trial.needs, *names), starts={**trial.starts, option: names})


def _folder_for(option: str, before: Trial) -> str:
    return str(before.config.out / "model" if option == "model" else before.config.out)


def _each_once(axes: dict[str, Axis]) -> dict[str, Axis]:
    for name, axis in axes.items():
        labels = [point.labels[name] for point in axis_points(name, axis)]
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"`{name}` must have a value, and each value once")
    return axes


def _other(one: Value, other: Value, name: str) -> bool:
    found: bool = getattr(one, name) != getattr(other, name)
    return found


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    names = sorted(one.keys() | other.keys())
    return [name for name in names if one.get(name) != other.get(name)]


def _lost(now: Mapping[str, Axis], before: Mapping[str, Axis]) -> Iterator[str]:
    """Axes that one of two lacks, and labels whose options have changed or gone."""
    for name in sorted(now.keys() | before.keys()):
        if name not in now or name not in before:
            yield name
            continue
        known = {point.labels[name]: point.options for point in axis_points(name, now[name])}
        for point in axis_points(name, before[name]):
            if known.get(label := point.labels[name]) != point.options:
                yield f"{name}.{label}"


def _grown(now: Draws | None, before: Draws | None) -> bool:
    """Whether all points that were drawn before are drawn now."""
    if now is None or before is None:
        return now == before
    return now.count >= before.count and now == before.model_copy(update={"count": now.count})


def _folder(labels: Mapping[str, str], rates: Mapping[str, JsonValue]) -> str:
    """A name for a folder: the labels of words, and names with the labels of numbers.

    What file systems do not take is replaced, and a hash of the labels tells such names apart.
    """
    shown = {**labels, **{option: label_of(value) for option, value in rates.items()}}
    parts = (label if label[:1].isalpha() else f"{axis}{label}" for axis, label in shown.items())
    name = "--".join(parts) or "run"
    found = re.sub(r"[^\w.=,-]+", "_", name)[:LONGEST]
    return found if found == name else f"{found}-{sha256(name.encode()).hexdigest()[:8]}"


def _shown(labels: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis} {label_of(label)}" for axis, label in labels.items() if label != NONE)
