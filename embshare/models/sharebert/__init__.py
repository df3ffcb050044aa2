"""ShareBERT (Hu, Cavicchioli & Capotondi, AAAI 2024): a plain BERT and a plan of the transform.

Importing this package imports transformers and registers the classes with its Auto classes.
"""

from embshare.models import hub  # first: it says what to install
from embshare.models.sharebert.config import ShareBertConfig
from embshare.models.sharebert.convert import convert_official_state_dict
from embshare.models.sharebert.heads import (
    ShareBertForMaskedLM,
    ShareBertForQuestionAnswering,
    ShareBertForSequenceClassification,
)
from embshare.models.sharebert.model import ShareBertModel, share_config, sharebert_plan
from embshare.models.sharebert.presets import PRESETS, base, large, small

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

hub.register(
    ShareBertConfig,
    {
        "AutoModel": ShareBertModel,
        "AutoModelForMaskedLM": ShareBertForMaskedLM,
        "AutoModelForSequenceClassification": ShareBertForSequenceClassification,
        "AutoModelForQuestionAnswering": ShareBertForQuestionAnswering,
    },
)
