"""A masked language model of the matched family: an encoder that fills in what is hidden."""

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
    """What a forward returns; the transformers ``Trainer`` takes any mapping with these names."""

    logits: Tensor
    """Unnormalised: ``[M, V]`` of the ``M`` labelled positions, row after row, where labels were
    given; ``[B, T, V]`` where not."""
    loss: NotRequired[Tensor]
    """Mean nats per labelled position; there only where labels were given."""


@final
class MatchedMaskedLanguageModel(nn.Module):
    """Predicts hidden symbols from both sides; the head is the embedding table.

    ``embedding`` and ``backbone`` are those of `MatchedClassifier`, which can go on with them.
    The head of a small model costs more than its layers, so it is applied to labelled positions
    alone.
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
            input_ids: ``[B, T]``, with mask symbols where something is hidden.
            attention_mask: ``[B, T]``, true at real symbols, which stand on the left; ``None``
                where all are, as in rows that are packed without padding.
            labels: ``[B, T]``, what stood there, and -100 where nothing is to be predicted.
        """
        x = self.dropout(embed(self.embedding, input_ids))
        hidden, _ = self.backbone(x, attention_mask)
        if labels is None:
            return {"logits": self.head(self.dropout(hidden))}
        scored = labels != IGNORED
        logits = self.head(self.dropout(hidden[scored]))
        return {"logits": logits, "loss": sequence_loss(logits[None], labels[scored][None])}
