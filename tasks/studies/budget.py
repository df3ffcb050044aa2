"""What a model may take, and the size that is solved for it."""

from __future__ import annotations

import math
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, final

from pydantic import ConfigDict, Field, field_validator, model_validator
from torch import nn

import embshare
from embshare._value import Value
from embshare.config import ShareConfig
from embshare.errors import EmbshareError, InvalidValueError, PlanError
from embshare.tasks.building import is_matched
from embshare.tasks.catalogue import TASKS
from embshare.tasks.measurement.sizes import Sizes, sizes_of
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.saving import save_trained
from embshare.tasks.studies.points import label_of
from embshare.tasks.task import PreparedTask
from embshare.tasks.text.pretrained import SIZES
from embshare.tasks.text.pretrained import Sizes as SavedSizes

__all__ = ["Budget", "BudgetError", "Models", "sized", "solved"]

Free: TypeAlias = Literal["auto", "width", "residual_rank", "factor"]
UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
AMOUNT: Final = re.compile(
    r"(?P<ratio>/)?\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kmg]i?)?(?P<b>b)?", re.I
)
NARROW: Final = 64
"""How many of the smallest sizes are tried for one with which there is a plan at all."""
WIDEST: Final = 2**16
"""Beyond it a search for a width ends: no matched model is that wide."""


class BudgetError(EmbshareError, ValueError):
    """No size of a model meets a budget."""

    def __init__(self, *, budget: Budget, free: str, smallest: str) -> None:
        super().__init__(
            f"the budget {budget} must be met by some `{free}`, but the smallest model takes "
            f"{smallest}. Raise the budget, or lower what else decides the size: the vocabulary, "
            "the layers, what is left dense."
        )
        self.budget, self.free, self.smallest = budget, free, smallest


class Budget(Value):
    """What a model may take; exactly one of the first four.

    Raises:
        InvalidValueError: none or several are given, or an amount cannot be read.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    bytes: Annotated[int, Field(ge=1)] | None = None
    """Bytes of the saved model's files, as in ``2MB``, ``400kB`` or ``1MiB``."""
    stored: Annotated[int, Field(ge=1)] | None = None
    """Stored parameters, as in ``500k`` or ``2M``."""
    ratio: Annotated[float, Field(gt=1)] | None = None
    """How many times fewer parameters are stored than by the dense model of the same options."""
    like: dict[str, str] | None = None
    """Axis -> label: as many bytes as the trial that has these labels and on all other axes the
    same."""
    free: Free = "auto"
    """Size that is solved: the model's `width`, or the `residual_rank` or the `factor` of its
    sharing. ``auto`` is the width of a dense model, and of a shared one the rank of its residuals,
    or its factor where the budget is too small for any, or its width where the dense model of the
    same options is smaller than the budget."""

    @model_validator(mode="before")
    @classmethod
    def _amounts(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        read = {
            name: _amount(value)
            for name in ("bytes", "stored")
            if isinstance(value := given.get(name), str)
        }
        return {**given, **read}

    @field_validator("like", mode="before")
    @classmethod
    def _as_shown(cls, given: Any) -> Any:
        return {k: label_of(v) for k, v in given.items()} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = (self.bytes, self.stored, self.ratio, self.like)
        if sum(amount is not None for amount in given) != 1:
            raise ValueError("must have one of `bytes`, `stored`, `ratio` and `like`")
        return self

    @classmethod
    def of(cls, given: object) -> Budget:
        """Read a budget as people write it.

        Args:
            given: ``2MB`` is bytes, ``500k`` stored parameters and ``/20`` a ratio; or a mapping of
                fields.
        Raises:
            InvalidValueError: it is none of these.
        """
        if isinstance(given, Budget):
            return given
        if isinstance(given, dict):
            return cls(**given)
        found = AMOUNT.fullmatch(str(given).strip())
        if found is None or (found["ratio"] and (found["unit"] or found["b"])):
            needs = "must be bytes (2MB), stored parameters (500k), a ratio (/20) or a mapping"
            raise InvalidValueError(what="study", faults=[f"`budget`: {needs}, but is {given!r}"])
        if found["ratio"]:
            return cls(ratio=float(found["number"]))
        amount = _amount(str(given))
        return cls(bytes=amount) if found["b"] else cls(stored=amount)

    def __str__(self) -> str:
        if self.ratio is not None:
            return f"/{self.ratio:g}"
        if self.like is not None:
            return f"of {label_of(dict(self.like))}"
        return f"{self.stored:,}" if self.stored is not None else f"{self.bytes:,} bytes"


def _amount(text: str) -> int:
    found = AMOUNT.fullmatch(text.strip())
    if found is None or found["ratio"]:
        raise ValueError(f"must be a number with a unit, as in 2MB or 500k, but is {text!r}")
    return round(float(found["number"]) * UNITS[(found["unit"] or "").lower()])


def solved(config: RunConfig, budget: Budget, models: Models) -> tuple[RunConfig, dict[str, int]]:
    """Set a run's free size to the largest with which the model is within a budget.

    Sizes are those of files that are written, with all that a shared model needs.

    Args:
        config: Settings of the run.
        budget: What the model may take.
        models: Builds models of the run's data.
    Returns:
        The run with that size, and the size by its name.
    Raises:
        BudgetError: no size meets it.
        InvalidValueError: the model has no such size.
    """
    unit = "bytes" if budget.bytes is not None else "parameters"
    limit = budget.bytes or budget.stored or 0
    dense = config.model_copy(update={"share": None})
    if budget.ratio is not None:
        limit = int(models.sizes(dense).stored / budget.ratio)

    def taken(found: RunConfig) -> int:
        sizes = models.sizes(found)
        return sizes.bytes_on_disk if unit == "bytes" else sizes.stored

    def size(free: str, value: int) -> float:
        try:
            return taken(sized(config, free, value))
        except PlanError:  # EPS: a wider model needs more columns than its table has
            return math.inf

    def fits(free: str, value: int) -> bool:
        return size(free, value) <= limit

    smallest = []
    for free in _free(config, budget, roomy=taken(dense) < limit):
        values = _values(config, free, models)
        # EPS: a slot takes a column at least, and a narrow table has few.
        narrow = takewhile(lambda value: math.isinf(size(free, value)), values[:NARROW])  # noqa: B023
        values = values[len([*narrow]) :]
        found = _largest(values, partial(fits, free))
        if found is not None:
            return sized(config, free, found), {free: found}
        smallest.append((size(free, values[0]), free))
    least, free = min(smallest)
    if math.isinf(least):
        models.sizes(config)  # raises what is wrong with all of them
    raise BudgetError(budget=budget, free=free, smallest=f"{least:,.0f} {unit}")


@final
class Models:
    """Models of one task's data in any size, built and saved to be measured, each once.

    Args:
        task: The task with its data.
        scratch: An existing folder to write to.
    """

    def __init__(self, task: PreparedTask, scratch: Path) -> None:
        self._processor, self._scratch = scratch / "processor", scratch
        self._processor.mkdir()
        task.processor.save(self._processor)
        self._found: dict[str, Sizes] = {}

    def model(self, config: RunConfig) -> nn.Module:
        """Build the model of a run."""
        task = TASKS[config.task].task(config.settings)
        if (self._processor / SIZES).is_file():  # which a processor would read in place of these
            fields = {name: getattr(config.settings, name) for name in SavedSizes.model_fields}
            SavedSizes(**fields).save(self._processor)
        model: nn.Module = task.load_processor(self._processor).build(config.model, config.seed)
        return model

    def sizes(self, config: RunConfig) -> Sizes:
        """Build, share and save the model of a run; training settings do not matter."""
        settings = config.settings.model_dump(mode="json", exclude={"training"})
        share = None if config.share is None else config.share.to_json()
        key = repr((config.model, settings, share))
        if key not in self._found:
            model = self.model(config)
            if config.share is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of sizes that are not chosen
                    embshare.share_from_embedding(model, config.share)
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
                save_trained(model, Path(folder))
                self._found[key] = sizes_of(model, Path(folder))
        return self._found[key]


def _free(config: RunConfig, budget: Budget, *, roomy: bool) -> tuple[str, ...]:
    """The sizes to solve for, in the order in which they are tried.

    Where there is room for the dense model, residuals that fill it would store more than that.
    """
    if budget.free == "auto":
        wider = config.share is None or roomy
        return ("width",) if wider else ("residual_rank", "factor")
    if budget.free != "width" and config.share is None:
        return ("width",)  # a dense model has no other
    return (budget.free,)


def sized(config: RunConfig, free: str, value: int) -> RunConfig:
    """Return a run with another size, named as in `Budget.free`."""
    if free == "width":
        settings = config.settings.model_copy(update={"width": value})
        return config.model_copy(update={"settings": settings})
    assert config.share is not None
    sizes = (
        {"residual_rank": value} if free == "residual_rank" else {free: value, "residual_rank": 0}
    )
    share = ShareConfig(**(config.share.model_dump() | sizes))
    return config.model_copy(update={"share": share})


def _values(config: RunConfig, free: str, models: Models) -> Sequence[int]:
    """The values that a size may have, from the smallest."""
    if free == "width":
        if not is_matched(config.model) or "width" not in type(config.settings).model_fields:
            fault = (
                f"`budget`: `width` must be that of a model of the matched family, but the model "
                f"is {config.model!r}. Share it, or set `budget.free` to residual_rank or factor."
            )
            raise InvalidValueError(what="study", faults=[fault])
        step = 2 * getattr(config.settings, "heads", 1)  # rotary positions turn pairs of columns
        return range(step, WIDEST, step)
    assert config.share is not None
    plan = embshare.plan_sharing(
        models.model(config), ShareConfig(**(config.share.model_dump() | {"residual_rank": 0}))
    )
    if free == "factor":
        return range(1, plan.sources[0].dim)
    sides = (min(slot.shape[0], slot.numel // slot.shape[0]) for slot in plan.slots)
    return range(min(sides) + 1)  # beyond it layers would be left dense


def _largest(values: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """The last value that fits, where none does after one that does not.

    From the small end, since large models cost time to build.
    """
    if not fits(values[0]):
        return None
    low, step = 0, 1  # the place of one that fits
    while low + step < len(values) and fits(values[low + step]):
        low, step = low + step, 2 * step
    high = min(low + step, len(values))  # the place of one that does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(values[middle]) else (low, middle)
    return values[low]
