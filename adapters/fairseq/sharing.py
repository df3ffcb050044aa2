"""`share`: what `embshare.share_from_embedding` is for other models, for those of fairseq."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from embshare.adapters.fairseq.inference import make_generation_plain
from embshare.adapters.fairseq.kinds import FAIRSEQ_RULES
from embshare.adapters.fairseq.sources import plan_fairseq
from embshare.config import ShareConfig
from embshare.plan.layer_rules import Rules
from embshare.plan.values import SharePlan
from embshare.sharing import share_from_embedding

__all__ = ["share"]

M = TypeVar("M", bound=nn.Module)


def share(
    model: M,
    config: ShareConfig | SharePlan | None = None,
    *,
    rules: Rules = FAIRSEQ_RULES,
    start: bool = True,
) -> M:
    """Share a model of fairseq in place, ready for fairseq's own training and generation.

    Args:
        model: as fairseq's ``build_model`` returned it.
        config: settings, or a plan. With ``source="auto"`` encoder and decoder read each from its
            own table, or both from the one that they have in common.
        rules: layer kind -> rule, where ``config`` is not a plan.
        start: False leaves the new parameters without values, for a checkpoint to fill.
    Returns:
        The model.
    Raises:
        PlanError: as `embshare.share_from_embedding`.
    """
    if isinstance(config, SharePlan):
        plan = config
    else:
        plan = plan_fairseq(model, config or ShareConfig(), rules)
    share_from_embedding(model, plan, start=start)
    make_generation_plain(model)
    return model
