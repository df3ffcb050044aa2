"""Models of transformers whose attention is narrower than they are: what `extract` makes.

transformers' BERT divides its whole width into heads. A sub-network has fewer heads of the same
size, which no setting of it says, so these have one more: ``kept_heads``. Nothing else is changed,
so there is one class for each head of transformers, made from it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import torch
import transformers
from torch import nn
from transformers import BertConfig, PretrainedConfig, PreTrainedModel, RobertaConfig

from embshare.errors import InvalidValueError
from embshare.models import hub
from embshare.models.dynabert.blocks import blocks, layer_list
from embshare.models.dynabert.config import NarrowBertConfig, NarrowRobertaConfig

__all__ = ["AUTO", "CONFIGS", "MODELS", "Narrow", "count_heads", "narrow_linear", "register"]

HEADS: Final = (
    "",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)
"""Heads of BERT and RoBERTa, as transformers ends the names of models and of Auto classes."""


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
            width, whole = kept * block.attention.unit, block.attention.outer.out_features
            attention = layer.get_submodule("attention.self")
            for name in ("query", "key", "value"):
                new = narrow_linear(getattr(attention, name), rows=width, columns=whole)
                attention.add_module(name, self._started(new))
            new = narrow_linear(block.attention.outer, rows=whole, columns=width)
            layer.get_submodule("attention.output").add_module("dense", self._started(new))
            count_heads(attention, kept)

    @torch.no_grad()
    def _started(self, layer: nn.Linear) -> nn.Linear:
        """Fill a layer as in a new model; transformers passes by what it is going to load."""
        self._init_weights(layer)  # type: ignore[no-untyped-call]
        return layer


def count_heads(attention: nn.Module, heads: int) -> None:
    """Tell an attention module of how many heads it is."""
    attention.num_attention_heads = heads  # type: ignore[assignment]
    attention.all_head_size = heads * attention.attention_head_size  # type: ignore[assignment, operator]


def _narrow(name: str, config: type[PretrainedConfig]) -> type[PreTrainedModel]:
    """The class of a model with fewer heads; pickles find it in this module, by its name."""
    members = {
        "__doc__": f"`{name}` with fewer heads.",
        "__module__": __name__,
        "config_class": config,
    }
    made = type(f"Narrow{name}", (Narrow, getattr(transformers, name)), members)
    globals()[made.__name__] = made
    return made


CONFIGS: Final = MappingProxyType(
    {BertConfig: NarrowBertConfig, RobertaConfig: NarrowRobertaConfig}
)
"""transformers' configurations to those with fewer heads."""

AUTO: Final = MappingProxyType(
    {
        config: {f"AutoModel{head}": _narrow(f"{kind}{head or 'Model'}", config) for head in HEADS}
        for kind, config in (("Bert", NarrowBertConfig), ("Roberta", NarrowRobertaConfig))
    }
)
"""Configurations to the classes that the Auto classes build from them."""

MODELS: Final = MappingProxyType(
    {narrow.__mro__[2]: narrow for classes in AUTO.values() for narrow in classes.values()}
)
"""transformers' classes to those with fewer heads."""


def register() -> None:
    """Make a ``config.json`` of these model types known; again changes nothing."""
    for config, classes in AUTO.items():
        hub.register(config, classes)
