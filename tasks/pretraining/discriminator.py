"""Scores of a discriminator, which tells replaced tokens from original ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from embshare.tasks.task import Batch

if TYPE_CHECKING:
    from embshare.models.convbert import ConvBertForPreTraining

__all__ = ["discriminator_scores"]


@torch.inference_mode()
def discriminator_scores(
    model: ConvBertForPreTraining, batches: Iterable[Batch], *, seed: int
) -> Mapping[str, float]:
    """How well replaced tokens are detected, with replacements drawn by the generator.

    Args:
        model: in evaluation mode.
        batches: rows without masks, ``input_ids`` ``[B, T]``.
        seed: seed of the masks and of the generator's draws.
    Returns:
        ``replaced_share``, of all tokens; ``replaced_accuracy``, where a model that detects none
        has one minus that share; ``replaced_f1``, of detecting them.
    """
    device = model.convbert.embeddings.word_embeddings.weight.device
    random = torch.Generator(device).manual_seed(seed)
    counts = torch.zeros(4, dtype=torch.float64)
    for batch in batches:
        output: Any = model(batch["input_ids"].to(device), generator=random)
        taken, replaced = output.logits > 0, output.replaced.bool()
        kinds = (taken & replaced, taken & ~replaced, ~taken & replaced, ~taken & ~replaced)
        counts += torch.stack([kind.sum() for kind in kinds]).double().cpu()
    hits, false, missed, right = counts.tolist()
    total = max(1.0, hits + false + missed + right)
    return {
        "replaced_share": (hits + missed) / total,
        "replaced_accuracy": (hits + right) / total,
        "replaced_f1": 2 * hits / max(1.0, 2 * hits + false + missed),
    }
