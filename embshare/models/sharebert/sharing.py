"""What makes the plain BERT a ShareBERT: settings of the generic transform, and its plan."""

from __future__ import annotations

import torch
from torch import nn

from embshare.config import ShareConfig
from embshare.models.sharebert.config import ShareBertConfig
from embshare.models.sharebert.plain import (
    ShareBertEmbeddings,
    ShareBertEncoder,
    ShareBertPooler,
)
from embshare.plan.planner import plan_sharing
from embshare.plan.values import SharePlan

__all__ = ["share_config", "sharebert_plan"]


def share_config(config: ShareBertConfig) -> ShareConfig:
    """ShareBERT in the words of `embshare.ShareConfig`.

    All layers read one slot for each role, from ``S = E P + b`` ``[V, H]``, whose leftmost columns
    are stored and never read; the table is stored ``[V, F]``, with a LayerNorm on either side of
    its projection to the width of the model.
    """
    return ShareConfig(
        method="veps",
        factor=config.factor_size,
        tie="all",
        source="embeddings.word_embeddings",
        include=("encoder.*", "pooler.*"),
        gain="none",
        width=config.hidden_size,
        column_bias=True,
        factor_norm=True,
    )


def sharebert_plan(config: ShareBertConfig) -> SharePlan:
    """The plan by which every ShareBERT of these settings is shared; allocates no weights.

    From the right-hand edge of the columns stand queries, keys, values, the feed-forward part's
    two matrices, the attention's output and the pooler: the order of the plain model's parameters.

    Raises:
        PlanError: the settings were changed, after they were checked, to what cannot be planned.
    """
    rows = config.source_rows or config.vocab_size
    with torch.device("meta"):
        plain = nn.ModuleDict(
            {
                "embeddings": ShareBertEmbeddings(config, rows=rows),
                "encoder": ShareBertEncoder(config),
                "pooler": ShareBertPooler(config),
            }
        )
    return plan_sharing(plain, share_config(config))
