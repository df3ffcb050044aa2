"""ELC-BERT with a head: masked tokens, and labels of sequences."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    SequenceClassifierOutput,
)

from embshare.models._bert import MaskedLM, SequenceClassification
from embshare.models.elc_bert.config import ElcBertConfig
from embshare.models.elc_bert.model import ElcBertModel, ElcBertPreTrainedModel, bare_norm
from embshare.models.hub import tuple_on_request

__all__ = ["ElcBertForMaskedLM", "ElcBertForSequenceClassification", "PredictionHead"]


class PredictionHead(nn.Module):
    """Transform of a head before its last matrix: a dense layer between two norms."""

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


class ElcBertForMaskedLM(MaskedLM, ElcBertPreTrainedModel):
    """Predicts masked tokens with the embedding table itself and a bias."""

    _tied_weights_keys = {"decoder.weight": "bert.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: ElcBertConfig) -> None:
        super().__init__(config)
        self.bert = ElcBertModel(config)
        self.transform = PredictionHead(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.decoder.weight = self.bert.embeddings.word_embeddings.weight
        self.post_init()

    @tuple_on_request
    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """Run as `MaskedLM.forward`, on labelled positions only, and without segments."""
        given = (input_ids, attention_mask, None, inputs_embeds, labels, output_hidden_states)
        return super().forward(*given, return_dict=True)  # type: ignore[call-arg]


class ElcBertForSequenceClassification(SequenceClassification, ElcBertPreTrainedModel):
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

    def _features(self, encoded: BaseModelOutputWithPooling) -> Tensor:
        assert encoded.last_hidden_state is not None
        features: Tensor = self.head(encoded.last_hidden_state[:, 0])
        return features

    @tuple_on_request
    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Run as `SequenceClassification.forward`, without segments."""
        given = (input_ids, attention_mask, None, inputs_embeds, labels, output_hidden_states)
        return super().forward(*given, return_dict=True)  # type: ignore[call-arg]
