"""Models of transformers whose attention is narrower than they are: what `extract` makes.

transformers' BERT divides its whole width into heads. A sub-network has fewer heads of the same
size, which no setting of it says, so these have one more: ``kept_heads``. Nothing else is changed.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForMultipleChoice,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)

from embshare.errors import InvalidValueError
from embshare.models import hub
from embshare.models.dynabert.blocks import blocks, layer_list

__all__ = [
    "CONFIGS",
    "MODELS",
    "NarrowBertConfig",
    "NarrowRobertaConfig",
    "count_heads",
    "narrow_linear",
    "register",
]


class NarrowBertConfig(BertConfig):
    """A BERT's settings, and how many of its heads there are in each layer."""

    model_type = "embshare-narrow-bert"
    kept_heads: int = 12
    """At most ``num_attention_heads``, by which a head's width is still found."""


class NarrowRobertaConfig(RobertaConfig):
    """A RoBERTa's settings, and how many of its heads there are in each layer."""

    model_type = "embshare-narrow-roberta"
    kept_heads: int = 12
    """At most ``num_attention_heads``, by which a head's width is still found."""


def narrow_linear(layer: nn.Linear, *, rows: int, columns: int) -> nn.Linear:
    """A new Linear of another size, on the same device and of the same type; not initialised."""
    like = layer.weight
    return nn.utils.skip_init(  # type: ignore[no-any-return]
        nn.Linear,
        columns,
        rows,
        bias=layer.bias is not None,
        device=like.device,
        dtype=like.dtype,
    )


class Narrow(PreTrainedModel):
    """Takes heads out of the model that the next class builds."""

    def __init__(self, config: PretrainedConfig, **given: Any) -> None:
        super().__init__(config, **given)
        heads, kept = config.num_attention_heads, config.kept_heads
        if not isinstance(kept, int) or not 1 <= kept <= heads:
            fault = f"`kept_heads` must be from 1 to {heads}, but is {kept!r}"
            raise InvalidValueError(what=type(config).__name__, faults=[fault])
        for block, layer in zip(blocks(self), layer_list(self), strict=True):
            width, whole = kept * block.head_size, block.output.out_features
            attention = layer.get_submodule("attention.self")
            for name in ("query", "key", "value"):
                new = narrow_linear(getattr(attention, name), rows=width, columns=whole)
                attention.add_module(name, self._started(new))
            new = narrow_linear(block.output, rows=whole, columns=width)
            layer.get_submodule("attention.output").add_module("dense", self._started(new))
            count_heads(attention, kept)

    @torch.no_grad()
    def _started(self, layer: nn.Linear) -> nn.Linear:
        """With the values of a new model; transformers passes by what it is going to load."""
        self._init_weights(layer)  # type: ignore[no-untyped-call]
        return layer


def count_heads(attention: nn.Module, heads: int) -> None:
    """Tell an attention module of how many heads it is."""
    attention.num_attention_heads = heads  # type: ignore[assignment]
    attention.all_head_size = heads * attention.attention_head_size  # type: ignore[assignment, operator]


class NarrowBertModel(Narrow, BertModel):
    """`BertModel` with fewer heads."""

    config_class = NarrowBertConfig


class NarrowBertForMaskedLM(Narrow, BertForMaskedLM):
    """`BertForMaskedLM` with fewer heads."""

    config_class = NarrowBertConfig


class NarrowBertForSequenceClassification(Narrow, BertForSequenceClassification):
    """`BertForSequenceClassification` with fewer heads."""

    config_class = NarrowBertConfig


class NarrowBertForTokenClassification(Narrow, BertForTokenClassification):
    """`BertForTokenClassification` with fewer heads."""

    config_class = NarrowBertConfig


class NarrowBertForQuestionAnswering(Narrow, BertForQuestionAnswering):
    """`BertForQuestionAnswering` with fewer heads."""

    config_class = NarrowBertConfig


class NarrowBertForMultipleChoice(Narrow, BertForMultipleChoice):
    """`BertForMultipleChoice` with fewer heads."""

    config_class = NarrowBertConfig


class NarrowRobertaModel(Narrow, RobertaModel):
    """`RobertaModel` with fewer heads."""

    config_class = NarrowRobertaConfig


class NarrowRobertaForMaskedLM(Narrow, RobertaForMaskedLM):
    """`RobertaForMaskedLM` with fewer heads."""

    config_class = NarrowRobertaConfig


class NarrowRobertaForSequenceClassification(Narrow, RobertaForSequenceClassification):
    """`RobertaForSequenceClassification` with fewer heads."""

    config_class = NarrowRobertaConfig


class NarrowRobertaForTokenClassification(Narrow, RobertaForTokenClassification):
    """`RobertaForTokenClassification` with fewer heads."""

    config_class = NarrowRobertaConfig


class NarrowRobertaForQuestionAnswering(Narrow, RobertaForQuestionAnswering):
    """`RobertaForQuestionAnswering` with fewer heads."""

    config_class = NarrowRobertaConfig


class NarrowRobertaForMultipleChoice(Narrow, RobertaForMultipleChoice):
    """`RobertaForMultipleChoice` with fewer heads."""

    config_class = NarrowRobertaConfig


AUTO: Final = MappingProxyType(
    {
        NarrowBertConfig: {
            "AutoModel": NarrowBertModel,
            "AutoModelForMaskedLM": NarrowBertForMaskedLM,
            "AutoModelForSequenceClassification": NarrowBertForSequenceClassification,
            "AutoModelForTokenClassification": NarrowBertForTokenClassification,
            "AutoModelForQuestionAnswering": NarrowBertForQuestionAnswering,
            "AutoModelForMultipleChoice": NarrowBertForMultipleChoice,
        },
        NarrowRobertaConfig: {
            "AutoModel": NarrowRobertaModel,
            "AutoModelForMaskedLM": NarrowRobertaForMaskedLM,
            "AutoModelForSequenceClassification": NarrowRobertaForSequenceClassification,
            "AutoModelForTokenClassification": NarrowRobertaForTokenClassification,
            "AutoModelForQuestionAnswering": NarrowRobertaForQuestionAnswering,
            "AutoModelForMultipleChoice": NarrowRobertaForMultipleChoice,
        },
    }
)
"""Which class each Auto class builds from each configuration."""

MODELS: Final = MappingProxyType(
    {narrow.__mro__[2]: narrow for classes in AUTO.values() for narrow in classes.values()}
)
"""transformers' classes to those with fewer heads."""

CONFIGS: Final = MappingProxyType(
    {BertConfig: NarrowBertConfig, RobertaConfig: NarrowRobertaConfig}
)
"""Their configurations."""


def register() -> None:
    """Make a ``config.json`` of these model types known; again changes nothing."""
    for config, classes in AUTO.items():
        hub.register(config, classes)
