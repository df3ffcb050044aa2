"""ConvBERT (Jiang et al., NeurIPS 2020): attention beside span-based dynamic convolution.

Importing this package imports transformers and registers the classes with its Auto classes, as
model type ``embshare-convbert`` beside transformers' own ``convbert``.
"""

from embshare.models import hub  # first: it says what to install
from embshare.models.convbert.config import ConvBertConfig
from embshare.models.convbert.convert import (
    from_transformers_state_dict,
    to_transformers_state_dict,
)
from embshare.models.convbert.heads import (
    ConvBertAnswerOutput,
    ConvBertForQuestionAnswering,
    ConvBertForSequenceClassification,
)
from embshare.models.convbert.model import ConvBertModel
from embshare.models.convbert.presets import PRESETS
from embshare.models.convbert.pretraining import (
    ConvBertForPreTraining,
    ConvBertForPreTrainingOutput,
    generator_config,
)

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

hub.register(
    ConvBertConfig,
    {
        "AutoModel": ConvBertModel,
        "AutoModelForPreTraining": ConvBertForPreTraining,
        "AutoModelForSequenceClassification": ConvBertForSequenceClassification,
        "AutoModelForQuestionAnswering": ConvBertForQuestionAnswering,
    },
)
