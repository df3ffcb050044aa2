"""What is compared: the grid of methods, architectures and seeds, and each task's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, TypeAlias, get_args

from pydantic import Field, field_validator, model_validator

from embshare._value import Value
from embshare.config import ShareConfig
from embshare.models.matched import ARCHITECTURES, Architecture
from embshare.tasks.language_modelling.config import LanguageModellingConfig

__all__ = ["METHODS", "TASK_NAMES", "BenchmarkConfig", "Cell", "Method", "TaskName", "quick"]

Method: TypeAlias = Literal["dense", "eps", "veps"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
TaskName: TypeAlias = Literal["language_modelling"]
TASK_NAMES: Final[tuple[TaskName, ...]] = get_args(TaskName)

QUICK_STEPS: Final = 80


class Cell(NamedTuple):
    """One model that is trained: a point of the grid."""

    task: TaskName
    architecture: Architecture
    method: Method
    seed: int

    @property
    def name(self) -> str:
        """As a file is called."""
        return f"{self.task}--{self.architecture}--{self.method}--seed{self.seed}"


class BenchmarkConfig(Value):
    """A benchmark, saved with its results, so that it can be run again.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    tasks: tuple[TaskName, ...] = TASK_NAMES
    architectures: tuple[Architecture, ...] = ARCHITECTURES
    methods: tuple[Method, ...] = METHODS
    """``dense`` is the model as it was built; the others share its hidden weights."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One model for each: of its start, its dropout and the order of its data."""
    tie: str = "all"
    """`ShareConfig.tie` of both sharing methods."""
    factor: int | None = None
    """`ShareConfig.factor` of both sharing methods."""
    gain: Literal["match", "none", "learned", "channel"] = "match"
    """`ShareConfig.gain` of both sharing methods."""
    anchor: Annotated[float, Field(ge=0, le=1e3)] = 2.0
    """`ShareConfig.anchor` of both sharing methods: models that start at random and are trained
    for some hundred steps are better with it."""
    language_modelling: LanguageModellingConfig = LanguageModellingConfig()
    """Text, size of the models, and length of their training."""
    out: Path = Path("runs/bench")
    """The folder for results and pictures."""
    overwrite: bool = False
    """Replace the results of an earlier benchmark in that folder."""
    resume: bool = False
    """Keep those cells in that folder that come from the same settings, data and commit."""

    @field_validator("tasks", "architectures", "methods", "seeds")
    @classmethod
    def _some_and_each_once(cls, found: tuple[object, ...]) -> tuple[object, ...]:
        if not found or len(set(found)) < len(found):
            raise ValueError("must have an entry, and each entry once")
        return found

    @model_validator(mode="after")
    def _no_contradiction(self) -> BenchmarkConfig:
        if self.overwrite and self.resume:
            raise ValueError("`overwrite` and `resume` exclude each other: leave one out")
        return self

    def share_config(self, method: Method) -> ShareConfig | None:
        """How a method shares; ``None`` for dense models.

        Raises:
            InvalidValueError: `tie`, `factor`, `gain` or `anchor` are not what `ShareConfig` takes.
        """
        if method == "dense":
            return None
        return ShareConfig(
            method=method,
            tie=self.tie,
            factor=self.factor,
            gain=self.gain,
            anchor=self.anchor,
        )

    def cells(self) -> tuple[Cell, ...]:
        """The grid in the order of work: whole grids one after the other, a seed at a time."""
        return tuple(
            Cell(task, architecture, method, seed)
            for seed in self.seeds
            for task in self.tasks
            for architecture in self.architectures
            for method in self.methods
        )


def quick(config: BenchmarkConfig) -> BenchmarkConfig:
    """The same grid with one seed and short training: to see that everything works."""
    modelling = config.language_modelling
    training = modelling.training.model_copy(update={"steps": QUICK_STEPS})
    return config.model_copy(
        update={
            "seeds": config.seeds[:1],
            "language_modelling": modelling.model_copy(update={"training": training}),
        }
    )
