"""`adopt_plan`: give a shared model the plan that its new weights were trained with."""

from __future__ import annotations

from torch import nn

from embshare.config import ShareConfig
from embshare.errors import PlanMismatchError
from embshare.plan.values import SharePlan
from embshare.runtime.bank import require_bank

__all__ = ["adopt_plan"]

_MEASURED = {"sources": "spread", "slots": "gain"}


def adopt_plan(model: nn.Module, plan: SharePlan) -> None:
    """Give a shared model another plan of the same columns, before or after it gets its weights.

    Two random starts of one model have equal plans but for what is measured on them: the standard
    deviation of a source and the gain of a slot. Weights that were trained with some gains are
    different with any other gains, so whoever loads weights into a newly planned model adopts
    their plan.

    Args:
        model: as `share_from_embedding` returned it, outside of `embshare.cached`.
        plan: of the weights.
    Raises:
        NotSharedError: the model is dense, or a part of a shared model.
        PlanMismatchError: the plans differ in anything else; the model keeps its own.
    """
    bank = require_bank(model)
    if (found := _difference(bank.plan, plan)) is not None:
        place, needs, finding = found
        raise PlanMismatchError(place=place, needs=needs, finding=finding)
    bank.adopt(plan)


def _difference(ours: SharePlan, theirs: SharePlan) -> tuple[str, str, str] | None:
    """The first place where more than a measured number differs: what is there, what is here."""
    for name in ShareConfig.model_fields:
        here, there = getattr(ours.config, name), getattr(theirs.config, name)
        if here != there:
            return f"config.{name}", repr(there), repr(here)
    for part, measured in _MEASURED.items():
        mine, others = getattr(ours, part), getattr(theirs, part)
        if len(mine) != len(others):
            return part, f"{len(others)} in number", f"{len(mine)} in number"
        for number, (one, other) in enumerate(zip(mine, others, strict=True)):
            for name in type(one).model_fields:
                here, there = getattr(one, name), getattr(other, name)
                if name != measured and here != there:
                    return f"{part}[{number}].{name}", repr(there), repr(here)
    return None
