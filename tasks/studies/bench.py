"""The built-in study: tasks, architectures, methods and seeds crossed, with all settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from embshare._value import Value
from embshare.config import ShareConfig
from embshare.models.matched import ARCHITECTURES, Architecture
from embshare.tasks.catalogue import TASKS
from embshare.tasks.runs.config import is_task
from embshare.tasks.settings import TaskConfig, TrainSettings
from embshare.tasks.studies.study_file import StudyFile

__all__ = ["METHODS", "BenchmarkConfig", "Method", "quick", "standard_tasks"]

Method: TypeAlias = Literal["dense", "eps", "veps"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
QUICK: Final = 8  # a quick benchmark trains an eighth as long


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
    """``dense`` is the model as it was built; the others share its hidden weights."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = (0,)
    """Seeds: one model each, for its initialization, dropout and data order. Differences of one
    seed prove little; three or more show their standard deviation."""
    share: ShareConfig = ShareConfig(anchor=2.0)
    """Sharing of EPS and VEPS models; each sets `ShareConfig.method` itself. Models that start at
    random and are trained for a few hundred steps are better with an anchor."""
    settings: dict[str, SerializeAsAny[TaskConfig]] = Field(default_factory=dict)
    """Settings of each task; a task that is not here has its defaults."""
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
        fields = {name: given.get("settings", {}).get(name, {}) for name in tasks}
        settings = {
            name: TASKS[name].settings_class()(**found) if isinstance(found, dict) else found
            for name, found in fields.items()
        }
        return {**given, "settings": settings}

    def share_config(self, method: Method) -> ShareConfig | None:
        """How a method shares; ``None`` for dense models."""
        if method == "dense":
            return None
        return ShareConfig(**(self.share.model_dump() | {"method": method}))

    def training(self, task: str) -> TrainSettings:
        """How long a task's models are trained."""
        found: TrainSettings = self.settings[task].training  # type: ignore[attr-defined]
        return found

    def study(self) -> StudyFile:
        """The grid, with each task's settings and each method's rate."""
        rate: dict[str, Any] = {}
        if self.shared_hidden_lr is not None:
            rate["training.hidden_lr"] = self.shared_hidden_lr
        methods: dict[str, dict[str, Any]] = {}
        for method in self.methods:
            share = self.share_config(method)
            shared = None if share is None else share.model_dump(mode="json")
            methods[method] = {"share": shared, **(rate if shared else {})}
        settings = {name: self.settings[name].model_dump(mode="json") for name in self.tasks}
        return StudyFile(
            name="embshare benchmark",
            axes={
                "task": {name: {"task": name, "settings": settings[name]} for name in self.tasks},
                "model": self.architectures,
                "method": methods,
                "seed": self.seeds,
            },
        )


def quick(config: BenchmarkConfig) -> BenchmarkConfig:
    """The same grid with one seed and short training: to see that everything works."""
    settings = {}
    for task, found in config.settings.items():
        before = config.training(task)
        steps = math.ceil(before.steps / QUICK)
        training = before.model_copy(update={"steps": steps, "epochs": None})
        settings[task] = found.model_copy(update={"training": training})
    return config.model_copy(update={"seeds": config.seeds[:1], "settings": settings})
