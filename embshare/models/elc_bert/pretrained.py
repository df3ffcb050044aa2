"""What the classes of ELC-BERT have in common: their names to transformers, and their start."""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers import PreTrainedModel

from embshare.models.elc_bert.config import ElcBertConfig
from embshare.models.elc_bert.layers import ElcBertEmbeddings, ElcBertFeedForward, Mixture

__all__ = ["ElcBertPreTrainedModel"]


class ElcBertPreTrainedModel(PreTrainedModel):
    """Matrices start from a normal distribution of spread ``sqrt(2 / (5 H))``, cut at twice that.

    Those of the feed-forward part in layer ``i``, from 0, are smaller by ``sqrt(1 / (2 (1 + i)))``.
    """

    config_class = ElcBertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _no_split_modules = ["ElcBertLayer"]  # noqa: RUF012

    @classmethod
    def is_custom_code(cls) -> bool:
        """False: parts without parameters of their own have a start too, and all of it goes
        through `torch.nn.init`, which transformers keeps from touching what was loaded."""
        return False

    def post_init(self) -> None:
        """As every model of transformers does when it is built."""
        super().post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        match module:
            case Mixture():
                _start_mixture(module)
            case ElcBertEmbeddings():
                self._draw(module, "relative")
            case ElcBertFeedForward():  # comes after its layers, and draws them again
                scale = math.sqrt(1 / (2 * (1 + module.depth)))
                self._draw(module.up, "weight", scale)
                self._draw(module.down, "weight", scale)
            case nn.LayerNorm():
                module.reset_parameters()
            case nn.Linear() | nn.Embedding():
                self._draw(module, "weight")
                if (bias := module._parameters.get("bias")) is not None:
                    nn.init.zeros_(bias)

    def _draw(self, owner: nn.Module, name: str, scale: float = 1.0) -> None:
        spread = math.sqrt(2 / (5 * self.config.hidden_size)) * scale
        if (stored := owner._parameters.get(name)) is not None:  # not a derived one
            nn.init.trunc_normal_(stored, std=spread, a=-2 * spread, b=2 * spread)


@torch.no_grad()
def _start_mixture(mixture: Mixture) -> None:
    logits = mixture.logits
    nn.init.zeros_(logits)
    if mixture.last_first and not getattr(logits, "_is_hf_initialized", False):  # was loaded
        logits[-1] = 1.0
