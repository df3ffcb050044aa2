"""A causal language model of the matched family."""

from __future__ import annotations

from typing import NotRequired, TypedDict, final

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.models.matched.backbone import Backbone, BackboneState
from embshare.models.matched.config import MatchedConfig
from embshare.models.matched.embedding import (
    IGNORED,
    embed,
    initialise_,
    sequence_loss,
    tie_head_,
)

__all__ = ["LanguageModelOutput", "MatchedLanguageModel"]


class LanguageModelOutput(TypedDict):
    """Output of a forward; the transformers ``Trainer`` takes any mapping with these names."""

    logits: Tensor
    """``[B, T, V]``, unnormalised; position ``t`` predicts token ``t + 1``."""
    loss: NotRequired[Tensor]
    """Mean nats per predicted token; present with labels only."""
    state: NotRequired[BackboneState]
    """State for the next piece of the sequence; present with ``keep_state`` only."""


@final
class MatchedLanguageModel(nn.Module):
    """Predicts every token from those before it; the head is the embedding table."""

    def __init__(self, config: MatchedConfig) -> None:
        super().__init__()
        self.settings = config  # not `config`: the transformers Trainer writes to that
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.backbone = Backbone(config, causal=True)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        tie_head_(self.head, self.embedding)
        initialise_(self)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        state: BackboneState | None = None,
        keep_state: bool = False,
    ) -> LanguageModelOutput:
        """Score the tokens that follow ``input_ids``.

        Args:
            input_ids: ``[B, T]``.
            attention_mask: ``[B, T]``, true at tokens, false at padding on the right. Padding is
                not scored; the mask has no other effect, since no token attends to later padding.
            labels: ``[B, T]``, the same tokens as ``input_ids``: the model itself shifts them by
                one, as transformers does. Those of -100 are not scored.
            state: state that an earlier call returned with ``keep_state``, to continue from.
            keep_state: return the state after the last position too.
        """
        x = self.dropout(embed(self.embedding, input_ids))
        hidden, after = self.backbone(x, state=state)
        output: LanguageModelOutput = {"logits": self.head(self.dropout(hidden))}
        if labels is not None:
            if attention_mask is not None:
                labels = labels.masked_fill(~attention_mask.bool(), IGNORED)
            # The labels are shifted, not the logits: those are large, and slicing would copy them.
            following = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
            output["loss"] = sequence_loss(output["logits"], following)
        if keep_state:
            output["state"] = after
        return output
