"""The Auto classes of transformers learn of ShareBERT."""

from __future__ import annotations

from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
)

from embshare.models import hub
from embshare.models.sharebert.config import ShareBertConfig
from embshare.models.sharebert.heads import (
    ShareBertForMaskedLM,
    ShareBertForQuestionAnswering,
    ShareBertForSequenceClassification,
)
from embshare.models.sharebert.model import ShareBertModel

__all__ = ["register"]


def register() -> None:
    """Make a ``config.json`` of model type ``sharebert`` known; again changes nothing."""
    hub.register(
        ShareBertConfig,
        {
            AutoModel: ShareBertModel,
            AutoModelForMaskedLM: ShareBertForMaskedLM,
            AutoModelForSequenceClassification: ShareBertForSequenceClassification,
            AutoModelForQuestionAnswering: ShareBertForQuestionAnswering,
        },
    )
