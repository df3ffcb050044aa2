"""`ConvBertForSequenceClassification`: labels of sequences."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from embshare.models.convbert.config import ConvBertConfig
from embshare.models.convbert.encoder import GlorotLinear
from embshare.models.convbert.model import ConvBertModel
from embshare.models.convbert.pretrained import ConvBertPreTrainedModel
from embshare.models.hub import tuple_on_request

__all__ = ["ConvBertForSequenceClassification"]


class ConvBertForSequenceClassification(ConvBertPreTrainedModel):
    """One linear layer on the first position, as officially; one label is regression."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__(config)
        assert config.num_labels is not None  # transformers fills it in
        self.num_labels = config.num_labels
        self.convbert = ConvBertModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = GlorotLinear(config.hidden_size, self.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

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
        """Classify; other arguments as in `ConvBertModel.forward`.

        Args:
            labels: ``[B]``, classes, or numbers where there is one label; ``[B, labels]`` of 0 and
                1 where ``config.problem_type`` is ``multi_label_classification``.
        Returns:
            ``logits`` ``[B, labels]``, and ``loss``: cross-entropy, or the squared error of one.
        """
        encoded = self.convbert(
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
