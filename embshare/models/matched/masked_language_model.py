"""A masked language model of the matched family."""

from __future__ import annotations

from typing import NotRequired, TypedDict, final

from torch import Tensor, nn

from embshare.models.matched.backbone import Backbone
from embshare.models.matched.config import MatchedConfig
from embshare.models.matched.embedding import (
    IGNORED,
    embed,
    initialise_,
    sequence_loss,
    tie_head_,
)

__all__ = ["MaskedLanguageModelOutput", "MatchedMaskedLanguageModel"]


class MaskedLanguageModelOutput(TypedDict):
    """Output of a forward; the transformers ``Trainer`` takes any mapping with these names."""

    logits: Tensor
    """Unnormalised: with labels ``[M, V]`` of the ``M`` labelled positions, row after row; without
    ``[B, T, V]``."""
    loss: NotRequired[Tensor]
    """Mean nats per labelled position; present with labels only."""


@final
class MatchedMaskedLanguageModel(nn.Module):
    """Predicts masked tokens from both directions; the head is the embedding table.

    ``embedding`` and ``backbone`` are those of `MatchedClassifier`, for fine-tuning.
    The head of a small model costs more than its layers, so it is applied to labelled positions
    only.
    """

    def __init__(self, config: MatchedConfig) -> None:
        super().__init__()
        self.settings = config  # not `config`: the transformers Trainer writes to that
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.backbone = Backbone(config, causal=False)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        tie_head_(self.head, self.embedding)
        initialise_(self)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> MaskedLanguageModelOutput:
        """Score the vocabulary.

        Args:
            input_ids: ``[B, T]``, with mask tokens.
            attention_mask: ``[B, T]``, true at tokens, false at padding on the right; ``None``
                without padding, as in packed rows.
            labels: ``[B, T]``, the original tokens, and -100 where nothing is predicted.
        """
        x = self.dropout(embed(self.embedding, input_ids))
        hidden, _ = self.backbone(x, attention_mask)
        if labels is None:
            return {"logits": self.head(self.dropout(hidden))}
        scored = labels != IGNORED
        logits = self.head(self.dropout(hidden[scored]))
        return {"logits": logits, "loss": sequence_loss(logits[None], labels[scored][None])}
