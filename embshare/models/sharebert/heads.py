"""ShareBERT with a head: masked tokens, labels of sequences, spans of answers."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.models._bert import MaskedLM, QuestionAnswering, SequenceClassification
from embshare.models.sharebert.config import ShareBertConfig
from embshare.models.sharebert.model import ShareBertModel, ShareBertPreTrainedModel

__all__ = [
    "PredictionHead",
    "ShareBertForMaskedLM",
    "ShareBertForQuestionAnswering",
    "ShareBertForSequenceClassification",
]


class PredictionHead(nn.Module):
    """Transform of the masked language model's head before its decoder; not shared."""

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., H]`` to ``[..., H]``."""
        normed: Tensor = self.norm(F.gelu(self.dense(x)))
        return normed


class ShareBertForMaskedLM(MaskedLM, ShareBertPreTrainedModel):
    """Predicts masked tokens with a separate head, neither shared nor tied to the table.

    Where ``config.sparse_mask_prediction``, as published, labelled positions alone are scored in
    training, and the decoder's bias is stored and left out. It is frozen then, and so is the
    pooler's: nothing that this model computes reads them. The dense layer of the head keeps
    PyTorch's own initialisation, as officially.
    """

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__(config)
        self.bert = ShareBertModel(config)
        self.transform = PredictionHead(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def unread(self) -> tuple[nn.Module | nn.Parameter, ...]:
        """The pooler's bias, and the decoder's where positions are scored sparsely."""
        return (self.bert.pooler, self.decoder.bias) if self._is_sparse() else (self.bert.pooler,)

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Take another decoder, as transformers gives when a vocabulary grows."""
        super().set_output_embeddings(new_embeddings)
        self._freeze()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, PredictionHead):
            module.dense.reset_parameters()

    def _is_sparse(self) -> bool:
        return bool(self.config.sparse_mask_prediction)

    def _decode(self, hidden: Tensor) -> Tensor:
        bias = None if self._is_sparse() else self.decoder.bias
        return F.linear(self.transform(hidden), self.decoder.weight, bias)


class ShareBertForSequenceClassification(SequenceClassification, ShareBertPreTrainedModel):
    """A linear classifier on the pooled first position; one label is regression."""

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__(config)
        assert config.num_labels is not None  # transformers fills it in
        self.num_labels = config.num_labels
        self.bert = ShareBertModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()


class ShareBertForQuestionAnswering(QuestionAnswering, ShareBertPreTrainedModel):
    """Extractive question answering. Not in the paper; the pooler's unread bias is frozen."""

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__(config)
        self.bert = ShareBertModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def unread(self) -> tuple[nn.Module | nn.Parameter, ...]:
        """The pooler's bias."""
        return (self.bert.pooler,)
