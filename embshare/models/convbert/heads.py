"""ConvBERT with a head: labels of sequences, and answers whose end depends on their start.

Axis letters: B batch, T positions, H width, M starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from embshare.errors import InvalidValueError
from embshare.models._bert import IGNORED, SequenceClassification
from embshare.models.convbert.config import ConvBertConfig
from embshare.models.convbert.model import ConvBertModel, ConvBertPreTrainedModel, GlorotLinear
from embshare.models.hub import tuple_on_request

__all__ = [
    "ConvBertAnswerOutput",
    "ConvBertForQuestionAnswering",
    "ConvBertForSequenceClassification",
]

OUTSIDE: Final = -1000.0
"""Added to the scores of positions where no answer can be."""
IMPOSSIBLE_WEIGHT: Final = 0.5


class ConvBertForSequenceClassification(SequenceClassification, ConvBertPreTrainedModel):
    """One linear layer on the first position, as officially; one label is regression."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__(config)
        assert config.num_labels is not None  # transformers fills it in
        self.num_labels = config.num_labels
        self.convbert = ConvBertModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = GlorotLinear(config.hidden_size, self.num_labels)
        self.post_init()


@dataclass
class ConvBertAnswerOutput(ModelOutput):
    """Scores of answers."""

    loss: Tensor | None = None
    """Mean over the batch."""
    start_logits: Tensor | None = None
    """``[B, T]``."""
    end_logits: Tensor | None = None
    """``[B, T]`` after the given start; without one ``[B, M, T]``, after each of the best."""
    starts: Tensor | None = None
    """``[B, M]``, the best starts, where none was given."""
    impossible_logits: Tensor | None = None
    """``[B]``: above 0 where there is rather no answer."""


class PairHead(nn.Module):
    """One number for two states side by side."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        self.dense = GlorotLinear(2 * config.hidden_size, config.answer_hidden_size)
        self.score = GlorotLinear(config.answer_hidden_size, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two ``[..., H]`` to ``[...]``."""
        scores: Tensor = self.score(F.gelu(self.dense(torch.cat([first, second], -1))))
        return scores.squeeze(-1)


class ConvBertForQuestionAnswering(ConvBertPreTrainedModel):
    """The official heads of SQuAD: start, end after a start, and no answer at all.

    Source:
        The official ``qa_tasks.QATask.get_prediction_module``.
    """

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__(config)
        self.convbert = ConvBertModel(config)
        self.start = GlorotLinear(config.hidden_size, 1)
        self.end = PairHead(config)
        self.impossible = PairHead(config)
        self.post_init()

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        is_impossible: Tensor | None = None,
    ) -> ConvBertAnswerOutput:
        """Score every position; other arguments as in `ConvBertModel.forward`.

        Args:
            token_type_ids: ``[B, T]``, 1 in the passage, where alone answers are sought, and at
                position 0, which means none.
            start_positions: ``[B]``; without it the best starts are followed.
            end_positions: ``[B]``, for the loss. A position outside of the sequence is not scored.
            is_impossible: ``[B]``, 1 where there is no answer; None is 0 everywhere.
        Raises:
            InvalidValueError: no ``token_type_ids``.
        """
        if token_type_ids is None:
            raise InvalidValueError(
                what="the input", faults=["`token_type_ids` must be given: 1 in the passage"]
            )
        encoded = self._encode(input_ids, attention_mask, token_type_ids, inputs_embeds)
        states = encoded.last_hidden_state
        assert states is not None
        outside = _outside(token_type_ids, attention_mask).to(states.dtype) * OUTSIDE
        start_logits = self.start(states).squeeze(-1) + outside
        impossible = self._impossible(states, start_logits)
        if start_positions is None:
            starts = start_logits.topk(min(self.config.answer_beams, states.shape[1])).indices
            end_logits = self._ends(states, starts) + outside[:, None]
            return ConvBertAnswerOutput(
                start_logits=start_logits,
                end_logits=end_logits,
                starts=starts,
                impossible_logits=impossible,
            )
        end_logits = self._ends(states, start_positions[:, None])[:, 0] + outside
        loss = None
        if end_positions is not None:
            spans = (
                _missed(start_logits, start_positions) + _missed(end_logits, end_positions)
            ) / 2
            truth = torch.zeros_like(impossible) if is_impossible is None else is_impossible
            wrong = F.binary_cross_entropy_with_logits(impossible, truth.to(impossible.dtype))
            loss = spans.mean() + IMPOSSIBLE_WEIGHT * wrong
        return ConvBertAnswerOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            impossible_logits=impossible,
        )

    def _impossible(self, states: Tensor, start_logits: Tensor) -> Tensor:
        expected = (start_logits.softmax(-1)[..., None] * states).sum(1)
        scores: Tensor = self.impossible(states[:, 0], expected)
        return scores

    def _ends(self, states: Tensor, starts: Tensor) -> Tensor:
        """``[B, M, T]`` after starts ``[B, M]``; one outside is a state of zeros."""
        length, width = states.shape[1:]
        inside = (starts >= 0) & (starts < length)
        places = starts.clamp(0, length - 1)[..., None].expand(-1, -1, width)
        first = states.gather(1, places) * inside[..., None]
        shape = (*starts.shape, length, width)
        scores: Tensor = self.end(first[:, :, None].expand(shape), states[:, None].expand(shape))
        return scores


def _outside(token_type_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """``[B, T]``, true at positions that are neither the first nor of the passage."""
    inside = token_type_ids == 1
    if attention_mask is not None:
        inside = inside & attention_mask.bool()
    inside = inside.clone()
    inside[:, 0] = True
    return ~inside


def _missed(logits: Tensor, positions: Tensor) -> Tensor:
    """``[B]``: the cross-entropy of ``positions``, 0 for one outside of the sequence."""
    length = logits.shape[-1]
    inside = (positions >= 0) & (positions < length)
    wanted = positions.masked_fill(~inside, IGNORED)
    return F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="none")
