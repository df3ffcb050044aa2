"""The Auto classes of transformers learn of this ConvBERT, beside their own."""

from __future__ import annotations

from transformers import (
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
)

from embshare.models import hub
from embshare.models.convbert.config import ConvBertConfig
from embshare.models.convbert.heads import ConvBertForSequenceClassification
from embshare.models.convbert.model import ConvBertModel
from embshare.models.convbert.pretraining import ConvBertForPreTraining
from embshare.models.convbert.questions import ConvBertForQuestionAnswering

__all__ = ["register"]


def register() -> None:
    """Make a ``config.json`` of model type ``embshare-convbert`` known; again changes nothing."""
    hub.register(
        ConvBertConfig,
        {
            AutoModel: ConvBertModel,
            AutoModelForPreTraining: ConvBertForPreTraining,
            AutoModelForSequenceClassification: ConvBertForSequenceClassification,
            AutoModelForQuestionAnswering: ConvBertForQuestionAnswering,
        },
    )
