"""A pre-LN BERT of ordinary layers, which know nothing of sharing.

Axis letters: B batch, T positions, H width, A heads.
"""

from __future__ import annotations

from typing import Final

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from embshare.models.attending import attend
from embshare.models.inputs import sum_embeddings
from embshare.models.sharebert.config import ShareBertConfig

__all__ = [
    "MATRICES",
    "PredictionHead",
    "ShareBertEmbeddings",
    "ShareBertEncoder",
    "ShareBertLayer",
    "ShareBertPooler",
]

MATRICES: Final = ("query", "key", "value", "up", "down", "output")
"""A layer's matrices in the order of the paper's columns, from the right-hand edge."""
MASKED: Final = -10000.0
"""Added to the scores of padding, as in the first BERT: finite in half precision too."""


class ShareBertEmbeddings(nn.Module):
    """Words, positions and segments. The factor's norms belong to the words alone."""

    def __init__(self, config: ShareBertConfig, *, rows: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(rows, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, input_ids: Tensor | None, token_type_ids: Tensor | None, words: Tensor | None
    ) -> Tensor:
        """``[B, T]`` to ``[B, T, H]``; ``words`` ``[B, T, H]`` stand in place of ``input_ids``.

        Raises:
            InvalidValueError: not one of ids and words, or more positions than the model has.
        """
        tables = (self.word_embeddings, self.position_embeddings, self.token_type_embeddings)
        summed = sum_embeddings(tables, input_ids, token_type_ids, words)
        embedded: Tensor = self.dropout(summed)
        return embedded


class ShareBertLayer(GradientCheckpointingLayer):
    """Attention and feed-forward part, each ``x + dropout(f(norm(x)))``.

    The matrices are declared in the order of `MATRICES`, which is the plan's.
    """

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.attention_dropout = config.attention_probs_dropout_prob
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``[B, T, H]`` to ``[B, T, H]``; ``mask`` ``[B, 1, 1, T]`` is added to the scores."""
        x = x + self.dropout(self.output(self.attend(self.attention_norm(x), mask)))
        inner = F.gelu(self.up(self.feed_forward_norm(x)))
        mixed: Tensor = x + self.dropout(self.down(inner))
        return mixed

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The heads' values side by side. Scores are divided by ``d ** (2 / 3)``, not its root."""
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        dropout = self.attention_dropout if self.training else 0.0
        scale = query.shape[-1] ** (-2 / 3)
        seen = attend(query, key, value, mask=mask, dropout=dropout, scale=scale)
        return seen.transpose(1, 2).flatten(2)


class ShareBertEncoder(nn.Module):
    """The layers, and the norm after the last."""

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__()
        layers = (ShareBertLayer(config) for _ in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, x: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, ...]:
        """``x`` ``[B, T, H]``, the output of every layer but the last, and the last one's, normed.

        Args:
            x: embedded words.
            attention_mask: ``[B, T]``, 1 at words and 0 at padding; None is 1 everywhere.
        """
        mask = None
        if attention_mask is not None:
            mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * MASKED
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        states[-1] = self.norm(states[-1])
        return tuple(states)


class ShareBertPooler(nn.Module):
    """A linear map of the first position; no tanh follows."""

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, H]`` to ``[B, H]``."""
        pooled: Tensor = self.dense(x[:, 0])
        return pooled


class PredictionHead(nn.Module):
    """What the head of the masked language model does before its decoder; it is not shared."""

    def __init__(self, config: ShareBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., H]`` to ``[..., H]``."""
        normed: Tensor = self.norm(F.gelu(self.dense(x)))
        return normed
