"""The built-in study: tasks, architectures, methods and seeds crossed, with all settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import yaml
from pydantic import Field, SerializeAsAny, field_validator, model_validator

from embshare._value import Value
from embshare.config import ShareConfig
from embshare.models.matched import ARCHITECTURES, Architecture
from embshare.tasks.catalogue import TASKS
from embshare.tasks.runs.config import is_task
from embshare.tasks.settings import TaskConfig, TrainSettings
from embshare.tasks.studies.study_file import Compare, StudyFile, Where

__all__ = ["METHODS", "BenchmarkConfig", "Method", "quick", "standard_tasks"]

Method: TypeAlias = Literal["dense", "narrow", "tied", "eps", "veps", "preset"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
QUICK: Final = 8  # a quick benchmark trains an eighth as long
STEPS: Final[Mapping[str, int]] = MappingProxyType(
    {"language_modelling": 200, "translation": 300, "captioning": 200, "glue": 200}
)
"""Task -> steps of training, unless others are given: two thirds of what `embshare train` makes, so
that six methods are compared in five minutes."""
PRESET: Final[Mapping[str, Any]] = MappingProxyType({"residual_rank": 4, "gain": "channel"})
"""What the preset adds to VEPS: a few percent of what layers of their own would store."""
RATES: Final = Path(__file__).with_name("rates.yaml")
"""Rates that a search has found for the default benchmark, written by ``benchmarks/rates.py``."""
SEARCHED: Final[Mapping[str, tuple[float, ...]]] = MappingProxyType({"hidden_lr": (0.3, 0.6, 1.2)})
"""What a search tries. Shared and dense models differ most in this rate."""


def standard_tasks() -> tuple[str, ...]:
    """The tasks that are compared unless others are named."""
    return tuple(name for name, entry in TASKS.items() if entry.compared)


class BenchmarkConfig(Value):
    """What `embshare bench` compares; `study` is what is run, and saved with its results.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    tasks: tuple[str, ...] = Field(default_factory=standard_tasks)
    """Names of `embshare.tasks.catalogue.TASKS`."""
    architectures: tuple[Architecture, ...] = ARCHITECTURES
    methods: tuple[Method, ...] = METHODS
    """``dense`` is the model as it was built, and ``narrow`` a narrower one that takes as much disk
    as the preset, or as the first method that shares; ``tied`` has one ordinary layer of each kind;
    ``eps`` and ``veps`` share as `share` says; ``preset`` is VEPS with gains of channels and
    residuals of rank 4."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = (0,)
    """Seeds: one model each, for its initialization, dropout and data order. Differences of one
    seed prove little; three or more show their standard deviation."""
    share: ShareConfig = ShareConfig(anchor=2.0)
    """Sharing of EPS and VEPS models; each sets `ShareConfig.method` itself. Models that start at
    random and are trained for a few hundred steps are better with an anchor."""
    settings: dict[str, SerializeAsAny[TaskConfig]] = Field(default_factory=dict)
    """Settings of each task; a task that is not here has its defaults."""
    search: bool = False
    """Search each model's best `hidden_lr` on the validation set, with the first seed, in place of
    those that were recorded for the default settings."""
    recorded: bool = True
    """Take the recorded rates where a task's settings have their defaults; false where a rate is
    given that may be the default."""
    shared_hidden_lr: Annotated[float, Field(gt=0)] | None = None
    """``hidden_lr`` of the models that share; ``None`` is that of dense ones. The best learning
    rate of a projection is often several times that of a matrix: one rate for both flatters
    whichever it suits."""

    @field_validator("tasks", "architectures", "methods", "seeds")
    @classmethod
    def _some_and_each_once(cls, found: tuple[object, ...]) -> tuple[object, ...]:
        if not found or len(set(found)) < len(found):
            raise ValueError("must have an entry, and each entry once")
        return found

    @model_validator(mode="before")
    @classmethod
    def _settings_of_tasks(cls, given: Any) -> Any:
        """Read each task's settings with the task's own class."""
        if not isinstance(given, dict) or not isinstance(given.get("settings", {}), Mapping):
            return given
        tasks = given.get("tasks", standard_tasks())
        if not isinstance(tasks, list | tuple):
            return given
        if unknown := [n for n in (*tasks, *given.get("settings", {})) if not is_task(n)]:
            raise ValueError(f"`{unknown[0]}` must be one of the tasks {', '.join(TASKS)}")
        fields = {
            name: _with_steps(name, given.get("settings", {}).get(name, {})) for name in tasks
        }
        settings = {
            name: TASKS[name].settings_class()(**found) if isinstance(found, dict) else found
            for name, found in fields.items()
        }
        return {**given, "settings": settings}

    @model_validator(mode="after")
    def _narrow_as_something(self) -> BenchmarkConfig:
        if "narrow" in self.methods and self._sized_by is None:
            raise ValueError("`methods`: narrow needs a method that shares, for its bytes")
        return self

    @property
    def _sized_by(self) -> Method | None:
        sharing = [method for method in self.methods if method not in ("dense", "narrow")]
        return "preset" if "preset" in sharing else next(iter(sharing), None)

    def share_config(self, method: Method) -> ShareConfig | None:
        """How a method shares; ``None`` for dense models."""
        if method in ("dense", "narrow"):
            return None
        if method == "tied":
            kept = self.share.model_dump(include={"tie", "include", "exclude"})
            return ShareConfig(**(kept | {"method": "own"}))
        own = dict(PRESET) if method == "preset" else {}
        method = "veps" if method == "preset" else method
        return ShareConfig(**(self.share.model_dump() | own | {"method": method}))

    def training(self, task: str) -> TrainSettings:
        """How long a task's models are trained."""
        found: TrainSettings = self.settings[task].training  # type: ignore[attr-defined]
        return found

    def study(self) -> StudyFile:
        """The grid, with each task's settings and each model's rate."""
        methods: dict[str, dict[str, Any]] = {}
        for method in self.methods:
            share = self.share_config(method)
            methods[method] = {"share": None if share is None else share.model_dump(mode="json")}
            if share is not None and self.shared_hidden_lr is not None:
                methods[method]["training.hidden_lr"] = self.shared_hidden_lr
        if "narrow" in self.methods:
            methods["narrow"]["budget"] = {"like": {"method": self._sized_by}}
        settings = {name: self.settings[name].model_dump(mode="json") for name in self.tasks}
        return StudyFile(
            name="embshare benchmark",
            axes={
                "task": {name: {"task": name, "settings": settings[name]} for name in self.tasks},
                "model": self.architectures,
                "method": methods,
                "seed": self.seeds,
            },
            where=self._recorded(),
            rates=dict(SEARCHED) if self.search else {},
            compare=Compare(baseline={"method": "dense"} if "dense" in self.methods else {}),
        )

    def _recorded(self) -> tuple[Where, ...]:
        """The rates that were found for each method and task, as far as none are given."""
        if self.search or not self.recorded or not RATES.is_file():
            return ()
        found = yaml.safe_load(RATES.read_text(encoding="utf-8"))
        return tuple(
            Where(
                labels={"task": task, "method": method},
                options={f"training.{name}": rate for name, rate in rates.items()},
            )
            for task, methods in found.items()
            for method, rates in methods.items()
            if task in self.tasks and method in self.methods and not self._has_rate(task, method)
        )

    def _has_rate(self, task: str, method: str) -> bool:
        """Whether the user has said a model's rates, which the recorded ones would override."""
        shared = self.share_config(method) is not None  # type: ignore[arg-type]
        given = {"learning_rate", "hidden_lr"} & self.training(task).model_fields_set
        default = TASKS[task].settings_class().model_fields["training"].default
        changed = any(getattr(self.training(task), n) != getattr(default, n) for n in given)
        return changed or (shared and self.shared_hidden_lr is not None)


def _with_steps(task: str, fields: Any) -> Any:
    """A task's settings with the benchmark's steps, where they say none."""
    if not isinstance(fields, Mapping) or task not in STEPS:
        return fields
    training = fields.get("training", {})
    if not isinstance(training, Mapping) or {"steps", "epochs"} & training.keys():
        return fields
    return {**fields, "training": {"steps": STEPS[task], **training}}


def quick(config: BenchmarkConfig) -> BenchmarkConfig:
    """The same grid with one seed and short training: to see that everything works."""
    settings = {}
    for task, found in config.settings.items():
        before = config.training(task)
        steps = math.ceil(before.steps / QUICK)
        training = before.model_copy(update={"steps": steps, "epochs": None})
        settings[task] = found.model_copy(update={"training": training})
    return config.model_copy(update={"seeds": config.seeds[:1], "settings": settings})
