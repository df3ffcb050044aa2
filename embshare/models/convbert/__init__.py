"""ConvBERT (Jiang et al., NeurIPS 2020): attention beside span-based dynamic convolution.

Importing this package imports transformers and registers the classes with its Auto classes, as
model type ``embshare-convbert`` beside transformers' own ``convbert``.
"""

from embshare.models import hub  # noqa: F401  (first: it says what to install)
from embshare.models.convbert.config import ConvBertConfig
from embshare.models.convbert.conversion import (
    from_transformers_state_dict,
    to_transformers_state_dict,
)
from embshare.models.convbert.heads import ConvBertForSequenceClassification
from embshare.models.convbert.model import ConvBertModel
from embshare.models.convbert.presets import PRESETS
from embshare.models.convbert.pretraining import (
    ConvBertForPreTraining,
    ConvBertForPreTrainingOutput,
    generator_config,
)
from embshare.models.convbert.questions import ConvBertAnswerOutput, ConvBertForQuestionAnswering
from embshare.models.convbert.registration import register

__all__ = [
    "PRESETS",
    "ConvBertAnswerOutput",
    "ConvBertConfig",
    "ConvBertForPreTraining",
    "ConvBertForPreTrainingOutput",
    "ConvBertForQuestionAnswering",
    "ConvBertForSequenceClassification",
    "ConvBertModel",
    "from_transformers_state_dict",
    "generator_config",
    "to_transformers_state_dict",
]

register()
