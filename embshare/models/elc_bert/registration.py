"""The Auto classes of transformers learn of ELC-BERT."""

from __future__ import annotations

from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from embshare.models import hub
from embshare.models.elc_bert.config import ElcBertConfig
from embshare.models.elc_bert.heads import ElcBertForMaskedLM, ElcBertForSequenceClassification
from embshare.models.elc_bert.model import ElcBertModel

__all__ = ["register"]


def register() -> None:
    """Make a ``config.json`` of model type ``elc_bert`` known; again changes nothing."""
    hub.register(
        ElcBertConfig,
        {
            AutoModel: ElcBertModel,
            AutoModelForMaskedLM: ElcBertForMaskedLM,
            AutoModelForSequenceClassification: ElcBertForSequenceClassification,
        },
    )
