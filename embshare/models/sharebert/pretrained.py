"""What the classes of ShareBERT have in common: their names to transformers, and their start."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from embshare.blocks.columns import Columns
from embshare.models.sharebert.config import ShareBertConfig
from embshare.models.sharebert.plain import (
    MATRICES,
    PredictionHead,
    ShareBertEncoder,
    ShareBertPooler,
)
from embshare.runtime.current_plan import TRAINED
from embshare.runtime.factorized import FactorMap

__all__ = ["ShareBertPreTrainedModel"]


class ShareBertPreTrainedModel(PreTrainedModel):
    """Tables and projections start from N(0, ``initializer_range``), as the official ones do.

    The biases of derived weights start from N(0, 1), those of all layers alike: the official
    encoder copies one layer. The prediction head's dense layer keeps torch's own start.
    """

    config_class = ShareBertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _no_split_modules = ["ShareBertLayer"]  # noqa: RUF012
    _supports_sdpa = True

    @classmethod
    def is_custom_code(cls) -> bool:
        """False: parts without parameters of their own have a start too, and all of it goes
        through `torch.nn.init`, which transformers keeps from touching what was loaded."""
        return False

    def unread(self) -> tuple[nn.Module | nn.Parameter, ...]:
        """What is stored, as it is officially, though nothing computes with it: it is frozen."""
        return ()

    def post_init(self) -> None:
        """As every model of transformers does when it is built."""
        super().post_init()  # type: ignore[no-untyped-call]
        self._freeze()

    def _freeze(self) -> None:
        for part in self.unread():
            part.requires_grad_(False)
            for module in part.modules() if isinstance(part, nn.Module) else ():
                module.__dict__.pop(TRAINED, None)  # not trained, and meant so: nobody is told

    def _init_weights(self, module: nn.Module) -> None:
        if module is self:  # comes last, and after loading too, which makes every tensor anew
            self._freeze()
        std: float = self.config.initializer_range
        match module:
            case ShareBertEncoder():
                _draw_biases(module)
            case ShareBertPooler():
                nn.init.normal_(module.dense.bias)
            case PredictionHead():
                module.dense.reset_parameters()
            case nn.LayerNorm():
                module.reset_parameters()
            case Columns():
                assert module.projection is not None and module.bias is not None
                nn.init.normal_(module.projection, std=std)
                nn.init.zeros_(module.bias)
            case FactorMap() | nn.Linear() | nn.Embedding():
                stored = module._parameters
                if (weight := stored.get("weight")) is not None:  # not a derived one
                    nn.init.normal_(weight, std=std)
                if (bias := stored.get("bias")) is not None:
                    nn.init.zeros_(bias)


@torch.no_grad()
def _draw_biases(encoder: ShareBertEncoder) -> None:
    for name in MATRICES:
        first, *others = (layer.get_submodule(name).bias for layer in encoder.layers)
        assert isinstance(first, nn.Parameter)
        nn.init.normal_(first)
        for bias in others:
            if not getattr(bias, "_is_hf_initialized", False):  # what transformers has loaded
                bias.copy_(first)  # type: ignore[operator]
