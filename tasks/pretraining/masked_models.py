"""Masked language models, whatever they return: their scores of the labelled positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from embshare.models.convbert import ConvBertForPreTraining

__all__ = ["GeneratorAlone", "as_masked_model", "is_replacing", "labelled_logits"]

IGNORED: Final = -100


def labelled_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """``[M, V]`` of the labelled positions, from a model that scores these or all.

    Args:
        logits: ``[M, V]``, ``[1, M, V]`` or ``[B, T, V]``.
        labels: ``[B, T]``, -100 where nothing is predicted.
    """
    if logits.dim() == 3 and logits.shape[:2] == labels.shape:
        return logits[labels != IGNORED]
    return logits.flatten(0, -2)


def is_replacing(model: nn.Module) -> bool:
    """Whether a model masks and replaces tokens itself, as ELECTRA and ConvBERT do in training."""
    import sys

    module = sys.modules.get("embshare.models.convbert.pretraining")  # else nothing is of it
    return module is not None and isinstance(model, module.ConvBertForPreTraining)


def as_masked_model(model: nn.Module) -> nn.Module:
    """A masked language model: the model itself, or its generator where it has one."""
    return GeneratorAlone(model) if is_replacing(model) else model  # type: ignore[arg-type]


@final
class GeneratorAlone(nn.Module):
    """The generator of a ConvBERT in pretraining, called as a masked language model is."""

    def __init__(self, model: ConvBertForPreTraining) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``logits`` ``[M, V]`` of the labelled positions, and their mean ``loss``.

        Args:
            input_ids: ``[B, T]``, with mask tokens.
            labels: ``[B, T]``, the masked tokens, and -100 where nothing is predicted.
            attention_mask: ``[B, T]``, 1 at tokens and 0 at padding; ``None`` is 1 everywhere.
        """
        from embshare.models.convbert.masking import Masked

        scored = labels != IGNORED
        most = max(1, int(scored.sum(dim=1).max()))
        found, positions = torch.sort(scored.int(), dim=1, descending=True, stable=True)
        found, positions = found[:, :most].bool(), positions[:, :most]
        masked = Masked(input_ids, positions, labels.gather(1, positions), found)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        logits = self.model.score_masked(masked, attention_mask, None)[found]
        loss = nn.functional.cross_entropy(logits.float(), labels[scored])
        return {"logits": logits, "loss": loss}
