"""The matched family: LSTM, convolution and attention with one table, head, width and budget.

Ordinary PyTorch modules that know nothing of sharing; `MatchedConfig` tells how they are matched.
"""

from embshare.models.matched.backbone import Backbone, BackboneState, reorder_state
from embshare.models.matched.classifier import MatchedClassifier
from embshare.models.matched.config import (
    ARCHITECTURES,
    Architecture,
    MatchedConfig,
    MatchedConfigError,
)
from embshare.models.matched.embedding import hidden_parameters
from embshare.models.matched.language_model import MatchedLanguageModel
from embshare.models.matched.masked_language_model import MatchedMaskedLanguageModel
from embshare.models.matched.seq2seq import MatchedSeq2Seq, Memory
from embshare.models.matched.spans import MatchedSpans

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Backbone",
    "BackboneState",
    "MatchedClassifier",
    "MatchedConfig",
    "MatchedConfigError",
    "MatchedLanguageModel",
    "MatchedMaskedLanguageModel",
    "MatchedSeq2Seq",
    "MatchedSpans",
    "Memory",
    "hidden_parameters",
    "reorder_state",
]
