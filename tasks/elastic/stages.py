"""The three stages as values; how long they are trained is in `settings`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from embshare._value import Value
from embshare.models.dynabert.sizes import DEPTHS, WIDTHS, Rounding, Size, sub_networks
from embshare.tasks.elastic.settings import ElasticSettings

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
