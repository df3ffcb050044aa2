"""Classification and regression models of the matched family."""

# Axis letters: B batch, T positions, D width.

from __future__ import annotations

from typing import NotRequired, TypedDict, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.models.matched.backbone import Backbone
from embshare.models.matched.config import MatchedConfig
from embshare.models.matched.embedding import embed, initialise_

__all__ = ["ClassifierOutput", "MatchedClassifier", "mean_of_real"]


class ClassifierOutput(TypedDict):
    """Output of a forward; the transformers ``Trainer`` takes any mapping with these names."""

    logits: Tensor
    """``[B, labels]``, unnormalised."""
    loss: NotRequired[Tensor]
    """Mean cross-entropy in nats, or mean squared error where ``labels == 1``."""


@final
class MatchedClassifier(nn.Module):
    """Encodes a sequence in both directions, averages its positions, and classifies that.

    Args:
        config: Architecture, sizes and labels.
        pairs: A row is two sentences. They are read as one sequence and averaged apart, as ``u``
            and ``v``, and ``[u; v; |u - v|; u v]`` is classified: what an average of both would
            lose, and what lets a convolution, which sees some positions only, compare them.

    Source:
        Conneau et al. 2017, figure 1; Wang et al. 2018, GLUE, section 5, for its baselines.
    """

    def __init__(self, config: MatchedConfig, *, pairs: bool = False) -> None:
        super().__init__()
        self.settings = config  # not `config`: the transformers Trainer writes to that
        self.pairs = pairs
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.backbone = Backbone(config, causal=False)
        self.classifier = nn.Linear(config.width * (4 if pairs else 1), config.labels)
        initialise_(self)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> ClassifierOutput:
        """Classify each row.

        Args:
            input_ids: ``[B, T]``; two sentences are separated by a token.
            attention_mask: ``[B, T]``, true at tokens, false at padding on the right; ``None``
                is true wherever ``input_ids`` is not the padding token.
            labels: ``[B]``, classes as integers, or numbers where ``config.labels == 1``.
            token_type_ids: ``[B, T]``, 1 in the second sentence and 0 in the first; used with
                ``pairs`` only: they have no embedding.
        Raises:
            ValueError: ``pairs`` without ``token_type_ids``.
        """
        mask = (
            input_ids.ne(self.settings.pad_token_id) if attention_mask is None else attention_mask
        )
        hidden, _ = self.backbone(self.dropout(embed(self.embedding, input_ids)), mask)
        features = self._features(hidden, mask, token_type_ids)
        logits = self.classifier(self.dropout(features))
        output: ClassifierOutput = {"logits": logits}
        if labels is not None:
            output["loss"] = self._loss(logits, labels)
        return output

    def _features(self, hidden: Tensor, mask: Tensor, kinds: Tensor | None) -> Tensor:
        if not self.pairs:
            return mean_of_real(hidden, mask)
        if kinds is None:
            raise ValueError("this model compares two sentences: give `token_type_ids`.")
        u = mean_of_real(hidden, mask.bool() & kinds.eq(0))
        v = mean_of_real(hidden, mask.bool() & kinds.eq(1))
        return torch.cat((u, v, (u - v).abs(), u * v), dim=-1)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.settings.labels == 1:
            return F.mse_loss(logits.float().squeeze(-1), labels.float())
        return F.cross_entropy(logits.float(), labels)


def mean_of_real(hidden: Tensor, mask: Tensor) -> Tensor:
    """Average over the positions ``[B, T, D]`` where ``mask`` ``[B, T]`` is true: ``[B, D]``."""
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
