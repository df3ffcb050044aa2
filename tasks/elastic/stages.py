"""The three stages as values, and how long they are trained."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from embshare._value import Value
from embshare.models.dynabert.sizes import DEPTHS, WIDTHS, Rounding, Size, sub_networks

__all__ = ["DEPTH_STAGE", "TUNING_STAGE", "WIDTH_STAGE", "ElasticSettings", "Stage"]

Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class Stage(Value):
    """Which sub-networks learn in every step, and from what.

    Raises:
        InvalidValueError: a field is unknown or out of range, or nothing would be learned.
    """

    name: str
    widths: Annotated[tuple[Share, ...], Field(min_length=1)] = WIDTHS
    depths: Annotated[tuple[Share, ...], Field(min_length=1)] = DEPTHS
    rounding: Rounding = "exact"
    """See `embshare.models.dynabert.Size`."""
    distil: bool = True
    """Learn from a teacher, and not from labels."""
    logits_weight: Weight = 1.0
    """Of the cross-entropy against the teacher's scores."""
    states_weight: Weight = 1.0
    """Of the squared errors of states."""
    teacher: Literal["full", "same"] = "full"
    """The teacher's width: ``full`` for every student, as the official code has it, or the ``same``
    as the student's, as the paper says. Its authors found no difference."""

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sub-networks, in the order in which their losses are computed."""
        return sub_networks(self.widths, self.depths, self.rounding)

    @model_validator(mode="after")
    def _learns(self) -> Stage:
        if self.distil and not self.logits_weight and not self.states_weight:
            raise ValueError("`logits_weight` or `states_weight` must be above 0 to distil")
        return self


WIDTH_STAGE: Final = Stage(name="width", depths=(1.0,), states_weight=0.1)
"""The first: four widths at full depth learn from the model that was fine-tuned."""
DEPTH_STAGE: Final = Stage(name="depth")
"""The second: twelve sub-networks learn from the result of the first."""
TUNING_STAGE: Final = Stage(name="tuning", distil=False)
"""The third, which may be left out: twelve sub-networks learn from labels."""


class ElasticSettings(Value):
    """AdamW with a linear warm-up and a linear way down to zero, by default as published.

    Raises:
        InvalidValueError: a field is unknown or out of range.
    """

    epochs: Annotated[float, Field(gt=0)] = 3.0
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows of one step, on each device."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches of one update."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the steps in which the learning rate rises; officially 0.06 for RoBERTa."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Of the summed gradient of all sub-networks."""
    evaluate_every: Annotated[int, Field(ge=1)] = 50
    """Updates between two evaluations of all sub-networks; officially 10 in the third stage."""
    bf16: bool = False
    """Compute in bfloat16 where autocast allows it."""
