"""How long and how fast a model is trained: the part of a config that all tasks have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from embshare._value import Value

__all__ = ["Optimizer", "Schedule", "TaskConfig", "TrainSettings", "laid_over"]

Optimizer = Literal["adamw", "lamb"]
Schedule = Literal["cosine", "linear", "inverse_sqrt", "constant"]
INSTEAD: Final = (("steps", "epochs"), ("warmup", "warmup_steps"))
"""Fields of `TrainSettings` of which one stands for the other."""


class TrainSettings(Value):
    """An optimizer with a linear warm-up, then a schedule.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    steps: Annotated[int, Field(ge=1)] = 300
    """Updates of the parameters."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the training side, in place of `steps`."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Rows of one step, on each device, where a task does not count its batches in symbols."""
    eval_batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows that are evaluated at once."""
    accumulation: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients make one update."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-2
    """Of the table and of vectors, the highest, at the end of the warm-up. The default suits some
    hundred steps; for many thousands take a third or a tenth of it."""
    hidden_lr: Annotated[float, Field(gt=0)] = 0.3
    """Of the matrices of layers, or of the projection that they come from, as a multiple of
    `learning_rate`; see `embshare.parameter_groups`."""
    schedule: Schedule = "cosine"
    """From the end of the warm-up on: down to zero as a cosine or a line, with the inverse square
    root of the steps, or not at all."""
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """What a cosine or a line comes down to, as a part of `learning_rate`."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Part of the steps in which the learning rate rises."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """As many steps in place of that part."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """By which learning rates fall from each layer to the one below it, as far as the embeddings;
    for dense models, whose layers have weights of their own."""
    optimizer: Optimizer = "adamw"
    """``lamb``, for very large batches, scales each matrix's step by the matrix's own size."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of matrices; biases, norms and gains have none."""
    table_decay: Annotated[float, Field(ge=0)] = 1.0
    """Weight decay of embedding tables, as a multiple of `weight_decay`."""
    betas: tuple[
        Annotated[float, Field(ge=0, lt=1)],
        Annotated[float, Field(ge=0, lt=1)],
    ] = (0.9, 0.999)
    """Of the optimizer's two running means."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Keeps the optimizer's steps finite where gradients have been zero."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this norm where theirs is larger."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What autocast computes in."""
    average: Annotated[int, Field(ge=1)] = 1
    """The trained model is the mean of the last so many checkpoints."""
    save_every: Annotated[int, Field(ge=1)] | None = None
    """Steps from one checkpoint to the next; ``None``: ten in a run."""
    log_every: Annotated[int, Field(ge=1)] | None = None
    """Steps from one point of the curve to the next; ``None``: a hundred in a run."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that read data beside each training process."""
    trackers: tuple[str, ...] = ()
    """Where the curve is sent as well: names that transformers knows (``tensorboard``)."""

    def steps_of_warmup(self, steps: int) -> int:
        """Of so many steps, those in which the learning rate rises."""
        return round(self.warmup * steps) if self.warmup_steps is None else self.warmup_steps

    @model_validator(mode="after")
    def _no_contradiction(self) -> TrainSettings:
        if self.epochs is not None and "steps" in self.model_fields_set:
            raise ValueError("`steps` and `epochs` exclude each other: leave one out")
        if self.warmup_steps is not None and "warmup" in self.model_fields_set:
            raise ValueError("`warmup` and `warmup_steps` exclude each other: leave one out")
        if self.floor > 0 and self.schedule not in ("cosine", "linear"):
            raise ValueError(
                f"`floor` must be 0 where `schedule` is {self.schedule!r}, which has none of its "
                "own: leave it out, or choose cosine or linear"
            )
        return self

    @model_serializer(mode="wrap")
    def _what_counts(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the defaults of what something else stands for: what is written can be read."""
        fields: dict[str, Any] = dump(self)
        if self.epochs is not None:
            fields.pop("steps", None)
        if self.warmup_steps is not None:
            fields.pop("warmup", None)
        return fields


def laid_over(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `TrainSettings` with others over them, which also win over what they stand for.

    Args:
        before: fields of less weight: defaults, or those of a file.
        given: fields that win; ``epochs`` takes the place of ``steps`` as well.
    """
    pairs = (*INSTEAD, *((other, one) for one, other in INSTEAD))
    replaced = {one for one, other in pairs if given.get(other) is not None}
    return {name: value for name, value in before.items() if name not in replaced} | dict(given)


class TaskConfig(Value):
    """What the configs of all tasks have in common: their `training` has defaults of its own.

    A mapping that is given for `training` is laid over the default of the task's class, whether it
    comes from Python, the command line or a file; `TrainSettings` are taken as they are.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar[frozenset[str]]
    """Fields by which a trained model is scored: what on, and how. All others made it, and stay."""
    sources: ClassVar[tuple[str, ...]] = ("data",)
    """Of them those that say where data come from, of which one stands for the others."""

    @field_validator("training", mode="before", check_fields=False)  # tasks have the field
    @classmethod
    def _over_own_default(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        default: TrainSettings = cls.model_fields["training"].default
        own = {name: getattr(default, name) for name in default.model_fields_set}
        return laid_over(own, given)
