"""fairseq's own layer kinds, named so that fairseq need not be imported."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from embshare.plan.layer_rules import RULES, LayerRule, Rules

__all__ = ["FAIRSEQ_RULES"]

_HEADS_FIRST = LayerRule(("weight",))

FAIRSEQ_RULES: Final[Rules] = MappingProxyType(
    {
        **RULES,
        # [kernel, in, out]; LinearizedConvolution is one. `weight_v` is the direction of a norm.
        "fairseq.modules.conv_tbc.ConvTBC": LayerRule(("weight", "weight_v"), channel=2),
        "fairseq.modules.lightweight_convolution.LightweightConv1d": _HEADS_FIRST,
        "fairseq.modules.lightweight_convolution.LightweightConv1dTBC": _HEADS_FIRST,
        "fairseq.modules.lightconv_layer.lightconv_layer.LightconvLayer": _HEADS_FIRST,
        # The head of a masked language model keeps its matrix itself.
        "fairseq.models.roberta.model.RobertaLMHead": LayerRule(("weight",), transposed=True),
    }
)
"""`RULES` of the core and what fairseq adds. Dynamic convolutions hold ordinary Linears."""
