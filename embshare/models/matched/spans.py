"""Extractive question answering by a model of the matched family."""

# Axis letters: B batch, T positions, D width.

from __future__ import annotations

from typing import Final, NotRequired, TypedDict, final

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.models.matched.backbone import Backbone
from embshare.models.matched.classifier import mean_of_real
from embshare.models.matched.config import MatchedConfig
from embshare.models.matched.embedding import IGNORED, embed, initialise_

__all__ = ["MatchedSpans", "SpansOutput"]

OUTSIDE: Final = -1e4
"""The score of positions where no answer can be: no probability is left, and float16 holds it."""


class SpansOutput(TypedDict):
    """Output of a forward; the transformers ``Trainer`` takes any mapping with these names."""

    start_logits: Tensor
    """``[B, T]``, unnormalised."""
    end_logits: Tensor
    """``[B, T]``, unnormalised."""
    loss: NotRequired[Tensor]
    """Mean of the cross-entropies of start and end, in nats; there only where both were given."""


@final
class MatchedSpans(nn.Module):
    """Reads question and passage as one sequence and scores where an answer starts and ends.

    A position is scored by itself and by its product with what the question's positions average
    to, so that a convolution, which does not see as far as the question, can answer too.

    Source:
        The bilinear scores of Chen et al. 2017, Reading Wikipedia to Answer Open-Domain Questions,
        section 3.2; position 0 means "no answer" as in Devlin et al. 2019, section 4.3.
    """

    def __init__(self, config: MatchedConfig) -> None:
        super().__init__()
        self.settings = config  # not `config`: the transformers Trainer writes to that
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.backbone = Backbone(config, causal=False)
        self.question = nn.Linear(config.width, 2 * config.width)
        self.outputs = nn.Linear(config.width, 2)
        initialise_(self)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
    ) -> SpansOutput:
        """Score every position.

        Args:
            input_ids: ``[B, T]``: a start token, the question, the passage.
            attention_mask: ``[B, T]``, true at tokens, false at padding on the right; ``None``
                is true wherever ``input_ids`` is not the padding token.
            token_type_ids: ``[B, T]``, 1 in the passage, which has the answers, and 0 before.
            start_positions: ``[B]``, positions of the first token of answers; 0 where there is no
                answer, -100 where the row is not scored.
            end_positions: ``[B]``, positions of the last token of answers.
        Raises:
            ValueError: ``token_type_ids`` are missing.
        """
        if token_type_ids is None:
            raise ValueError("this model has to know the passage: give `token_type_ids`.")
        mask = (
            input_ids.ne(self.settings.pad_token_id) if attention_mask is None else attention_mask
        ).bool()
        hidden, _ = self.backbone(self.dropout(embed(self.embedding, input_ids)), mask)
        passage = mask & token_type_ids.eq(1)
        start, end = self._scores(self.dropout(hidden), mask & ~passage, passage)
        output: SpansOutput = {"start_logits": start, "end_logits": end}
        if start_positions is not None and end_positions is not None:
            output["loss"] = (_missed(start, start_positions) + _missed(end, end_positions)) / 2
        return output

    def _scores(self, hidden: Tensor, question: Tensor, passage: Tensor) -> tuple[Tensor, Tensor]:
        width = hidden.shape[-1]
        wanted = self.question(mean_of_real(hidden, question)).view(-1, 2, width)
        scores = self.outputs(hidden) + hidden @ wanted.transpose(1, 2) / width**0.5
        outside = ~passage
        outside[:, 0] = False  # "no answer"
        start, end = scores.masked_fill(outside.unsqueeze(-1), OUTSIDE).unbind(dim=-1)
        return start, end


def _missed(scores: Tensor, positions: Tensor) -> Tensor:
    """Mean nats of ``positions`` ``[B]``; 0, and no NaN, where none of them is scored."""
    total = F.cross_entropy(scores.float(), positions, ignore_index=IGNORED, reduction="sum")
    return total / positions.ne(IGNORED).sum().clamp(min=1)
