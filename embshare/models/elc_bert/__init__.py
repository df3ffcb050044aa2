"""ELC-BERT and LTG-BERT (Charpentier & Samuel, BabyLM 2023; Samuel et al., EACL 2023).

Importing this package imports transformers and registers the classes with its Auto classes.
"""

from embshare.models import hub  # first: it says what to install
from embshare.models.elc_bert.config import ElcBertConfig
from embshare.models.elc_bert.convert import convert_official_state_dict
from embshare.models.elc_bert.heads import ElcBertForMaskedLM, ElcBertForSequenceClassification
from embshare.models.elc_bert.model import ElcBertModel
from embshare.models.elc_bert.plot import draw_layer_weights, layer_weights
from embshare.models.elc_bert.presets import base, small

__all__ = [
    "ElcBertConfig",
    "ElcBertForMaskedLM",
    "ElcBertForSequenceClassification",
    "ElcBertModel",
    "base",
    "convert_official_state_dict",
    "draw_layer_weights",
    "layer_weights",
    "small",
]

hub.register(
    ElcBertConfig,
    {
        "AutoModel": ElcBertModel,
        "AutoModelForMaskedLM": ElcBertForMaskedLM,
        "AutoModelForSequenceClassification": ElcBertForSequenceClassification,
    },
)
