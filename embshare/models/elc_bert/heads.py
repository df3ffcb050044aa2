"""ELC-BERT with a head: masked words, and labels of sequences."""

from __future__ import annotations

from typing import Final

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.modeling_outputs import MaskedLMOutput, SequenceClassifierOutput

from embshare.models.elc_bert.config import ElcBertConfig
from embshare.models.elc_bert.layers import bare_norm
from embshare.models.elc_bert.model import ElcBertModel
from embshare.models.elc_bert.pretrained import ElcBertPreTrainedModel
from embshare.models.hub import tuple_on_request

__all__ = ["ElcBertForMaskedLM", "ElcBertForSequenceClassification", "PredictionHead"]

IGNORED: Final = -100
"""The label of positions that are not scored."""


class PredictionHead(nn.Module):
    """What a head does before its last matrix: a dense layer between two norms."""

    def __init__(self, config: ElcBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm_in = bare_norm(config.hidden_size, config)
        self.norm_out = bare_norm(config.hidden_size, config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., H]`` to ``[..., H]``."""
        prepared: Tensor = self.dropout(self.norm_out(F.gelu(self.dense(self.norm_in(x)))))
        return prepared


class ElcBertForMaskedLM(ElcBertPreTrainedModel):
    """Predicts masked words with the embedding table itself and a bias."""

    _tied_weights_keys = {"decoder.weight": "bert.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: ElcBertConfig) -> None:
        super().__init__(config)
        self.bert = ElcBertModel(config)
        self.transform = PredictionHead(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.decoder.weight = self.bert.embeddings.word_embeddings.weight
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """The decoder."""
        return self.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Take another decoder, as transformers gives when a vocabulary grows."""
        self.decoder = new_embeddings

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """Score the vocabulary; other arguments as in `ElcBertModel.forward`.

        Args:
            labels: ``[B, T]``, the words of masked positions and -100 everywhere else.
        Returns:
            ``logits`` ``[B, T, V]``; in training with labels ``[M, V]`` of the ``M`` labelled
            positions alone. ``loss`` is the mean over these.
        """
        encoded = self.bert(
            input_ids, attention_mask, inputs_embeds, output_hidden_states, return_dict=True
        )
        hidden, loss, wanted = encoded.last_hidden_state, None, labels
        if labels is not None and self.training:
            scored = labels != IGNORED
            hidden, wanted = hidden[scored], labels[scored]
        logits = self.decoder(self.transform(hidden))
        if wanted is not None:
            loss = F.cross_entropy(logits.flatten(0, -2), wanted.flatten(), ignore_index=IGNORED)
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)


class ElcBertForSequenceClassification(ElcBertPreTrainedModel):
    """A classifier on the first position, shaped as the prediction head; one label is regression.

    The official repositories have classifiers in their evaluation alone.
    """

    def __init__(self, config: ElcBertConfig) -> None:
        super().__init__(config)
        assert config.num_labels is not None  # transformers fills it in
        self.num_labels = config.num_labels
        self.bert = ElcBertModel(config)
        self.head = PredictionHead(config)  # named unlike the pretrained one: it starts anew
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Classify; other arguments as in `ElcBertModel.forward`.

        Args:
            labels: ``[B]``, classes, or numbers where there is one label; ``[B, labels]`` of 0 and
                1 where ``config.problem_type`` is ``multi_label_classification``.
        Returns:
            ``logits`` ``[B, labels]``, and ``loss``: cross-entropy, or the squared error of one.
        """
        encoded = self.bert(
            input_ids, attention_mask, inputs_embeds, output_hidden_states, return_dict=True
        )
        logits = self.classifier(self.head(encoded.last_hidden_state[:, 0]))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states
        )
