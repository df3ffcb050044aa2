"""Training settings, the part of a config that all tasks have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from embshare._value import Value

__all__ = ["FORMER", "Optimizer", "Schedule", "TaskConfig", "TrainSettings", "merged"]

Optimizer = Literal["adamw", "lamb"]
Schedule = Literal["cosine", "linear", "inverse_sqrt", "constant"]
FORMER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "batch_symbols": "batch_tokens",
        "most_symbols": "max_train_tokens",
        "most_valid_symbols": "max_valid_tokens",
        "pictures": "images",
        "symbols": "tokens",
        "source_symbols": "source_tokens",
        "target_symbols": "target_tokens",
        "test_side": "test_set",
    }
)
"""Former -> current names, in saved settings and in saved descriptions of data."""
FORMER_HUB: Final = ("hub", "dataset")
"""Former names of settings that named a data set of the hub, which is now ``data``: hub:NAME."""
INSTEAD: Final = (("steps", "epochs"), ("warmup", "warmup_steps"))
"""Pairs of fields of `TrainSettings` that exclude each other."""


class TrainSettings(Value):
    """An optimizer with a linear warm-up, then a schedule.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)  # they are the options' help

    steps: Annotated[int, Field(ge=1)] = 300
    """Number of optimizer updates."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Number of epochs over the training set, in place of `steps`."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Batch size per device (sequences), where a task does not count its batches in tokens."""
    eval_batch_size: Annotated[int, Field(ge=1)] = 32
    """Batch size in evaluation (sequences)."""
    accumulation: Annotated[int, Field(ge=1)] = 1
    """Gradient accumulation steps."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-2
    """Peak learning rate of the embedding table and of 1-D parameters. The default suits a few
    hundred steps; for many thousands take a third or a tenth of it."""
    hidden_lr: Annotated[float, Field(gt=0)] = 0.3
    """Learning rate of the matrices of layers, or of the projection that they are derived from, as
    a multiple of `learning_rate`; see `embshare.parameter_groups`."""
    schedule: Schedule = "cosine"
    """Learning rate schedule after the warm-up: cosine or linear decay, inverse square root of the
    step, or constant."""
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Minimum learning rate of a cosine or linear schedule, as a fraction of `learning_rate`."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Warm-up ratio: fraction of the steps in which the learning rate rises."""
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """Number of warm-up steps, in place of the ratio `warmup`."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Layer-wise learning rate decay: factor from each layer to the one below it, down to the
    embeddings; for dense models, whose layers have their own weights."""
    optimizer: Optimizer = "adamw"
    """Optimizer; ``lamb``, for very large batches, scales each matrix's update by the matrix's
    norm."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of matrices; biases, norms and gains have none."""
    table_decay: Annotated[float, Field(ge=0)] = 1.0
    """Weight decay of embedding tables, as a multiple of `weight_decay`."""
    betas: tuple[
        Annotated[float, Field(ge=0, lt=1)],
        Annotated[float, Field(ge=0, lt=1)],
    ] = (0.9, 0.999)
    """Adam betas (beta1, beta2)."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Adam epsilon, which keeps updates finite where gradients have been zero."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Maximum gradient norm; larger gradients are clipped."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of autocast."""
    average: Annotated[int, Field(ge=1)] = 1
    """Average the last N checkpoints into the trained model."""
    save_every: Annotated[int, Field(ge=1)] | None = None
    """Steps between checkpoints; ``None``: ten checkpoints in a run."""
    log_every: Annotated[int, Field(ge=1)] | None = None
    """Steps between logged points of the training curve; ``None``: a hundred points in a run."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Number of data loader workers per training process."""
    trackers: tuple[str, ...] = ()
    """Experiment trackers that the training curve is also sent to, by their names in transformers
    (``tensorboard``)."""

    def steps_of_warmup(self, steps: int) -> int:
        """Number of warm-up steps in a run of ``steps``."""
        return round(self.warmup * steps) if self.warmup_steps is None else self.warmup_steps

    @model_validator(mode="after")
    def _no_contradiction(self) -> TrainSettings:
        if self.epochs is not None and "steps" in self.model_fields_set:
            raise ValueError("`steps` and `epochs` exclude each other: leave one out")
        if self.warmup_steps is not None and "warmup" in self.model_fields_set:
            raise ValueError("`warmup` and `warmup_steps` exclude each other: leave one out")
        if self.floor > 0 and self.schedule not in ("cosine", "linear"):
            raise ValueError(
                f"`floor` must be 0 where `schedule` is {self.schedule!r}, which has no minimum: "
                "leave it out, or choose cosine or linear"
            )
        return self

    @model_serializer(mode="wrap")
    def _what_counts(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the default of a field whose alternative is given, so that loading succeeds."""
        fields: dict[str, Any] = dump(self)
        if self.epochs is not None:
            fields.pop("steps", None)
        if self.warmup_steps is not None:
            fields.pop("warmup", None)
        return fields


def merged(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Merge fields of `TrainSettings`.

    Args:
        before: fields of lower priority: defaults, or those of a file.
        given: fields of higher priority; ``epochs`` also replaces ``steps``, and so on.
    """
    pairs = (*INSTEAD, *((other, one) for one, other in INSTEAD))
    replaced = {one for one, other in pairs if given.get(other) is not None}
    return {name: value for name, value in before.items() if name not in replaced} | dict(given)


class TaskConfig(Value):
    """Base of the configs of all tasks, each with its defaults of `training`.

    A mapping that is given for `training` is merged into the default of the task's class, whether
    it comes from Python, the command line or a file; `TrainSettings` are taken as they are. Fields
    may have their `FORMER` names, so that runs of earlier versions can be read.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)  # they are the options' help

    scoring: ClassVar[frozenset[str]]
    """Fields that may change when a trained model is evaluated: its data, and how it is scored."""
    sources: ClassVar[tuple[str, ...]] = ("data",)
    """Fields in `scoring` that name the data; giving one of them replaces all."""

    eval_limit: Annotated[int, Field(ge=1)] | None = None
    """Evaluate on the first N rows of each split: windows, sentences, images or questions. Such a
    score is not that of the whole split, and results say so; ``None`` is all rows."""

    @model_validator(mode="before")
    @classmethod
    def _by_current_names(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        known = {old: new for old, new in FORMER.items() if new in cls.model_fields}
        fields = {
            name if known.get(name, name) in given else known[name]: value
            for name, value in given.items()
        }
        for name in FORMER_HUB:
            if name in fields and fields.get("data") is None:
                found = fields.pop(name)
                fields["data"] = None if found is None else f"hub:{found}"
            elif fields.get(name, ...) is None:
                del fields[name]
        return fields

    @field_validator("training", mode="before", check_fields=False)  # tasks have the field
    @classmethod
    def _over_own_default(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        default: TrainSettings = cls.model_fields["training"].default
        own = {name: getattr(default, name) for name in default.model_fields_set}
        return merged(own, given)
