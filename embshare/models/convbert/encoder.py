"""Embeddings and post-LN layers of ConvBERT: ordinary layers, which know nothing of sharing.

Axis letters: B batch, T positions, E width of the table, H width of the layers.
"""

from __future__ import annotations

from typing import Final

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from embshare.models.convbert.attention import MixedAttention
from embshare.models.convbert.config import ConvBertConfig
from embshare.models.inputs import sum_embeddings

__all__ = [
    "ConvBertEmbeddings",
    "ConvBertEncoder",
    "ConvBertLayer",
    "GlorotLinear",
    "GroupedLinear",
]

MASKED: Final = -10000.0
"""Added to the scores of padding, as in the first BERT: finite in half precision too."""


class GlorotLinear(nn.Linear):
    """A linear layer with TensorFlow's default start."""

    def reset_parameters(self) -> None:
        """Glorot-uniform weights, and a bias of zeros."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


class ConvBertEmbeddings(nn.Module):
    """Words, positions and segments, summed and normed at the width of the table."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        width = config.embedding_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, input_ids: Tensor | None, token_type_ids: Tensor | None, words: Tensor | None = None
    ) -> Tensor:
        """``[B, T]`` to ``[B, T, E]``; ``words`` ``[B, T, E]`` stand in place of ``input_ids``.

        Raises:
            InvalidValueError: not one of ids and words, or more positions than the model has.
        """
        tables = (self.word_embeddings, self.position_embeddings, self.token_type_embeddings)
        summed = sum_embeddings(tables, input_ids, token_type_ids, words)
        embedded: Tensor = self.dropout(self.norm(summed))
        return embedded


class GroupedLinear(nn.Conv1d):
    """Contiguous chunks of the features, each mapped by a matrix of its own, in order.

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
            x: embedded words.
            attention_mask: ``[B, T]``, 1 at words and 0 at padding; None is 1 everywhere.
        """
        mask = None
        if attention_mask is not None:
            mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * MASKED
        states = [x if self.project is None else self.project(x)]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return tuple(states)
