"""ShareBERT with a head: masked words, labels of sequences, spans of answers."""

from __future__ import annotations

from typing import Final

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.modeling_outputs import (
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
)

from embshare.models.hub import tuple_on_request
from embshare.models.sharebert.config import ShareBertConfig
from embshare.models.sharebert.model import ShareBertModel
from embshare.models.sharebert.plain import PredictionHead
from embshare.models.sharebert.pretrained import ShareBertPreTrainedModel

__all__ = [
    "ShareBertForMaskedLM",
    "ShareBertForQuestionAnswering",
    "ShareBertForSequenceClassification",
]

IGNORED: Final = -100
"""The label of positions that are not scored, as everywhere in transformers (officially -1)."""


class ShareBertForMaskedLM(ShareBertPreTrainedModel):
    """Predicts masked words with a head of its own, neither shared nor tied to the table.

    Where ``config.sparse_mask_prediction``, as published, the decoder's bias is stored and left
    out. It is frozen then, and so is the pooler's: nothing that this model computes reads them.
    """

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__(config)
        self.bert = ShareBertModel(config)
        self.transform = PredictionHead(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def unread(self) -> tuple[nn.Module | nn.Parameter, ...]:
        """The pooler's bias, and the decoder's where positions are scored sparsely."""
        sparse = self.config.sparse_mask_prediction
        return (self.bert.pooler, self.decoder.bias) if sparse else (self.bert.pooler,)

    def get_output_embeddings(self) -> nn.Module:
        """The decoder."""
        return self.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Take another decoder, as transformers gives when a vocabulary grows."""
        self.decoder = new_embeddings
        self._freeze()

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """Score the vocabulary; other arguments as in `ShareBertModel.forward`.

        Args:
            labels: ``[B, T]``, the words of masked positions and -100 everywhere else.
        Returns:
            ``logits`` ``[B, T, V]``. In training with labels, where
            ``config.sparse_mask_prediction``, ``[M, V]`` of the ``M`` labelled positions alone.
            ``loss`` is the mean over these.
        """
        encoded = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            inputs_embeds,
            output_hidden_states,
            return_dict=True,
        )
        hidden, loss, wanted = encoded.last_hidden_state, None, labels
        if labels is not None and self.training and self.config.sparse_mask_prediction:
            scored = labels != IGNORED
            hidden, wanted = hidden[scored], labels[scored]
        bias = None if self.config.sparse_mask_prediction else self.decoder.bias
        logits = F.linear(self.transform(hidden), self.decoder.weight, bias)
        if wanted is not None:
            loss = F.cross_entropy(logits.flatten(0, -2), wanted.flatten(), ignore_index=IGNORED)
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


class ShareBertForSequenceClassification(ShareBertPreTrainedModel):
    """A linear classifier on the pooled first position; one label is regression."""

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__(config)
        assert config.num_labels is not None  # transformers fills it in
        self.num_labels = config.num_labels
        self.bert = ShareBertModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Classify; other arguments as in `ShareBertModel.forward`.

        Args:
            labels: ``[B]``, classes, or numbers where there is one label; ``[B, labels]`` of 0 and
                1 where ``config.problem_type`` is ``multi_label_classification``.
        Returns:
            ``logits`` ``[B, labels]``, and ``loss``: cross-entropy, or the squared error of one.
        """
        encoded = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            inputs_embeds,
            output_hidden_states,
            return_dict=True,
        )
        logits = self.classifier(self.dropout(encoded.pooler_output))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states
        )


class ShareBertForQuestionAnswering(ShareBertPreTrainedModel):
    """Where an answer starts and ends. Not of the paper; the pooler's bias is frozen, unread."""

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__(config)
        self.bert = ShareBertModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def unread(self) -> tuple[nn.Module | nn.Parameter, ...]:
        """The pooler's bias."""
        return (self.bert.pooler,)

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        """Score every position; other arguments as in `ShareBertModel.forward`.

        Args:
            start_positions: ``[B]``; one outside of the sequence is not scored.
            end_positions: ``[B]``, given with the former.
        Returns:
            ``start_logits`` and ``end_logits`` ``[B, T]``, and ``loss``, the mean of both.
        """
        encoded = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            inputs_embeds,
            output_hidden_states,
            return_dict=True,
        )
        start, end = self.qa_outputs(encoded.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = self.loss_function(start, end, start_positions, end_positions)
        return QuestionAnsweringModelOutput(
            loss=loss, start_logits=start, end_logits=end, hidden_states=encoded.hidden_states
        )
