"""ShareBERT (Hu, Cavicchioli & Capotondi, AAAI 2024): a plain BERT and a plan of the transform.

Importing this package imports transformers and registers the classes with its Auto classes.
"""

from embshare.models import hub  # noqa: F401  (first: it says what to install)
from embshare.models.sharebert.config import ShareBertConfig
from embshare.models.sharebert.heads import (
    ShareBertForMaskedLM,
    ShareBertForQuestionAnswering,
    ShareBertForSequenceClassification,
)
from embshare.models.sharebert.model import ShareBertModel
from embshare.models.sharebert.official import convert_official_state_dict
from embshare.models.sharebert.presets import PRESETS, base, large, small
from embshare.models.sharebert.registration import register
from embshare.models.sharebert.sharing import share_config, sharebert_plan

__all__ = [
    "PRESETS",
    "ShareBertConfig",
    "ShareBertForMaskedLM",
    "ShareBertForQuestionAnswering",
    "ShareBertForSequenceClassification",
    "ShareBertModel",
    "base",
    "convert_official_state_dict",
    "large",
    "share_config",
    "sharebert_plan",
    "small",
]

register()
