"""What the classes of ConvBERT have in common: their names to transformers, and their start."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from embshare.models.convbert.config import ConvBertConfig
from embshare.models.convbert.encoder import GlorotLinear, GroupedLinear
from embshare.models.convbert.predictions import GeneratorHead

__all__ = ["ConvBertPreTrainedModel"]


class ConvBertPreTrainedModel(PreTrainedModel):
    """Everything starts as officially: from a normal law cut off at two deviations.

    The deviation is ``initializer_range``, and ``1 / K`` in depthwise convolutions. Layers of
    TensorFlow's default start, which are the projection and the outputs of heads, are uniform.
    """

    config: ConvBertConfig
    config_class = ConvBertConfig
    base_model_prefix = "convbert"
    supports_gradient_checkpointing = True
    _no_split_modules = ["ConvBertLayer"]  # noqa: RUF012
    _supports_sdpa = True

    @classmethod
    def is_custom_code(cls) -> bool:
        """False: all of the start goes through `torch.nn.init`, which transformers keeps from
        touching what was loaded."""
        return False

    def _init_weights(self, module: nn.Module) -> None:
        std: float = self.config.initializer_range
        match module:
            case GlorotLinear() | nn.LayerNorm():
                module.reset_parameters()
            case nn.Linear() | GroupedLinear():
                _truncated(module.weight, std)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            case nn.Embedding():
                _truncated(module.weight, std)
            case nn.Conv1d():  # the depthwise one
                _truncated(module.weight, 1 / module.kernel_size[0])
            case GeneratorHead():
                nn.init.zeros_(module.bias)


def _truncated(weight: Tensor, std: float) -> None:
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
