"""The Auto classes of transformers learn of ShareBERT."""

from __future__ import annotations

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
)

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
    AutoConfig.register(ShareBertConfig.model_type, ShareBertConfig, exist_ok=True)
    AutoModel.register(ShareBertConfig, ShareBertModel, exist_ok=True)
    AutoModelForMaskedLM.register(ShareBertConfig, ShareBertForMaskedLM, exist_ok=True)
    AutoModelForSequenceClassification.register(
        ShareBertConfig, ShareBertForSequenceClassification, exist_ok=True
    )
    AutoModelForQuestionAnswering.register(
        ShareBertConfig, ShareBertForQuestionAnswering, exist_ok=True
    )
