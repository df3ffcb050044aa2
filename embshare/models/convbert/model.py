"""Post-LN layers of ConvBERT, ordinary ones, which know nothing of sharing; and `ConvBertModel`.

Axis letters: B batch, T positions, E width of the table, H width of the layers.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from embshare.models._bert import BertEmbeddings, BertModel, BertPreTrainedModel, additive_mask
from embshare.models.convbert.attention import MixedAttention
from embshare.models.convbert.config import ConvBertConfig

__all__ = [
    "ConvBertEncoder",
    "ConvBertLayer",
    "ConvBertModel",
    "ConvBertPreTrainedModel",
    "GlorotLinear",
    "GroupedLinear",
]


class GlorotLinear(nn.Linear):
    """A linear layer with TensorFlow's default start."""

    def reset_parameters(self) -> None:
        """Glorot-uniform weights, and a bias of zeros."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


class GroupedLinear(nn.Conv1d):
    """Contiguous chunks of the features, each mapped by its own matrix, in order.

    A convolution of one position, as which it is shared where convolutions are. ``weight`` is
    ``[out, in / groups, 1]``.
    """

    def __init__(self, width: int, out: int, groups: int) -> None:
        super().__init__(width, out, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, width]`` to ``[B, T, out]``."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class ConvBertLayer(GradientCheckpointingLayer):
    """Mixed attention and feed-forward part, each ``norm(x + dropout(f(x)))``."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        width, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.attention = MixedAttention(config)
        self.output = nn.Linear(2 * config.mixed_heads * config.head_size, width)
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.up = feed_forward_half(width, inner, config.num_groups)
        self.down = feed_forward_half(inner, width, config.num_groups)
        self.feed_forward_norm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``[B, T, H]`` to ``[B, T, H]``; ``mask`` ``[B, 1, 1, T]`` is added to the scores."""
        x = self.attention_norm(x + self.dropout(self.output(self.attention(x, mask))))
        mixed: Tensor = self.feed_forward_norm(x + self.dropout(self.down(F.gelu(self.up(x)))))
        return mixed


def feed_forward_half(width: int, out: int, groups: int) -> nn.Module:
    """One of the two maps of a feed-forward part: a plain layer where there is one group."""
    return nn.Linear(width, out) if groups == 1 else GroupedLinear(width, out, groups)


class ConvBertEncoder(nn.Module):
    """The map from the table's width to that of the layers, where they differ; and the layers."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        same = config.embedding_size == config.hidden_size
        self.project = None if same else GlorotLinear(config.embedding_size, config.hidden_size)
        layers = (ConvBertLayer(config) for _ in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, ...]:
        """``x`` ``[B, T, E]`` at the width of the layers, and the output of each layer.

        Args:
            x: embeddings of tokens.
            attention_mask: ``[B, T]``, 1 at tokens and 0 at padding; None is 1 everywhere.
        """
        mask = additive_mask(attention_mask, x.dtype)
        states = [x if self.project is None else self.project(x)]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return tuple(states)


class ConvBertPreTrainedModel(BertPreTrainedModel):
    """Everything starts as officially: from a normal law cut off at two deviations.

    The deviation is ``initializer_range``, and ``1 / K`` in depthwise convolutions. Layers of
    TensorFlow's default start, which are the projection and the outputs of heads, are uniform.
    """

    config: ConvBertConfig
    config_class = ConvBertConfig
    base_model_prefix = "convbert"
    _no_split_modules = ["ConvBertLayer"]  # noqa: RUF012
    _supports_sdpa = True

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


def _truncated(weight: Tensor, std: float) -> None:
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


class ConvBertModel(BertModel, ConvBertPreTrainedModel):
    """Embeddings and encoder. What is pooled is the first position, as it is.

    Raises:
        InvalidValueError: the settings were changed to what cannot be built.
    Source:
        Jiang et al., ConvBERT: Improving BERT with Span-based Dynamic Convolution, NeurIPS 2020.
    """

    embeddings: BertEmbeddings
    encoder: ConvBertEncoder

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__(config)
        self.embeddings = BertEmbeddings(
            config, width=config.embedding_size, eps=config.layer_norm_eps
        )
        self.encoder = ConvBertEncoder(config)
        self.post_init()
