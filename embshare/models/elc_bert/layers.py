"""The parts of an LTG-BERT, ordinary layers all, which know nothing of sharing.

Axis letters: B batch, T positions, H width, A heads, I inner width, C buckets, R = 2 C - 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from embshare.errors import InvalidValueError
from embshare.models.elc_bert.config import ElcBertConfig
from embshare.models.elc_bert.variants import VARIANTS

__all__ = [
    "ElcBertAttention",
    "ElcBertEmbeddings",
    "ElcBertFeedForward",
    "ElcBertLayer",
    "Mixture",
    "bare_norm",
]


def bare_norm(width: int, config: ElcBertConfig) -> nn.LayerNorm:
    """A norm without parameters."""
    return nn.LayerNorm(width, eps=config.layer_norm_eps, elementwise_affine=False)


class ElcBertEmbeddings(nn.Module):
    """Words, normed; and the one table of relative positions ``[R, H]`` that all layers read."""

    def __init__(self, config: ElcBertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.relative = nn.Parameter(torch.empty(2 * config.position_bucket_size - 1, width))
        self.word_norm = bare_norm(width, config)
        self.relative_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor | None, words: Tensor | None) -> tuple[Tensor, Tensor]:
        """``[B, T]`` to ``[B, T, H]`` and ``[R, H]``; ``words`` ``[B, T, H]`` in place of ids.

        Raises:
            InvalidValueError: not one of ids and words.
        """
        if (input_ids is None) == (words is None):
            raise InvalidValueError(
                what="the input", faults=["give either `input_ids` or `inputs_embeds`"]
            )
        if words is None:
            words = self.word_embeddings(input_ids)
        return self.dropout(self.word_norm(words)), self.relative_norm(self.relative)


class ElcBertAttention(nn.Module):
    """Attention between two norms, to words and to relative positions.

    With queries and keys of words ``q, k`` and of relative positions ``q', k'``, made by the same
    matrix, a score is ``(q_i k_j + q_i k'_b + k_j q'_b) / sqrt(3 d)``, where ``b`` is the bucket of
    ``i - j``.
    """

    def __init__(self, config: ElcBertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.scale = (3 * width // self.heads) ** -0.5
        self.query_key = nn.Linear(width, 2 * width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.norm_in = bare_norm(width, config)
        self.norm_out = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(
        self, x: Tensor, relative: Tensor, buckets: Tensor, padding: Tensor | None
    ) -> Tensor:
        """``[B, T, H]`` to ``[B, T, H]``.

        Args:
            x: the layer's input.
            relative: normed relative positions ``[R, H]``.
            buckets: which of them stands between two positions, ``[T, T]``.
            padding: ``[B, 1, 1, T]``, True at padding.
        """
        x = self.norm_in(x)
        query, key = (self._split(part) for part in self.query_key(x).chunk(2, dim=-1))
        positions = self.query_key(self.dropout(relative)).chunk(2, dim=-1)
        relative_query, relative_key = (self._split(part) for part in positions)

        shape = (*query.shape[:2], *buckets.shape)
        to_keys = (query @ relative_key.mT).gather(-1, buckets.expand(shape))
        to_queries = (key @ relative_query.mT).gather(-1, buckets.mT.expand(shape)).mT
        scores = (query @ key.mT + to_keys + to_queries) * self.scale

        seen = self.dropout(_attend(scores, padding)) @ self._split(self.value(x))
        mixed: Tensor = self.dropout(self.norm_out(self.output(seen.transpose(1, 2).flatten(2))))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        """``[..., T, H]`` to ``[..., A, T, H / A]``."""
        parted: Tensor = x.unflatten(-1, (self.heads, -1))
        return parted.transpose(-3, -2)


def _attend(scores: Tensor, padding: Tensor | None) -> Tensor:
    """Probabilities, exactly 0 at padding; a sentence of nothing else has none, and no NaN."""
    if padding is None:
        return scores.softmax(-1)
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(padding, lowest).softmax(-1).masked_fill(padding, 0.0)


class ElcBertFeedForward(nn.Module):
    """``down(norm(value * gelu(gate)))``; the first half of ``up`` is the value. No biases."""

    def __init__(self, config: ElcBertConfig, *, depth: int) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.depth = depth
        self.up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.norm_in = bare_norm(width, config)
        self.norm_inner = bare_norm(inner, config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, H]`` to ``[B, T, H]``."""
        value, gate = self.up(self.norm_in(x)).chunk(2, dim=-1)
        inner = self.norm_inner(value * F.gelu(gate, approximate="tanh"))
        fed: Tensor = self.dropout(self.down(inner))
        return fed


class ElcBertLayer(GradientCheckpointingLayer):
    """Attention and feed-forward part, joined as the `Variant` says."""

    def __init__(self, config: ElcBertConfig, *, depth: int) -> None:
        super().__init__()
        self.variant = VARIANTS[config.variant]
        self.attention = ElcBertAttention(config)
        self.feed_forward = ElcBertFeedForward(config, depth=depth)
        self.norm = bare_norm(config.hidden_size, config) if self.variant.normed else None

    def forward(
        self, x: Tensor, relative: Tensor, buckets: Tensor, padding: Tensor | None
    ) -> Tensor:
        """``[B, T, H]`` to ``[B, T, H]``; arguments as in `ElcBertAttention.forward`."""
        attended: Tensor = self.attention(x, relative, buckets, padding)
        if self.variant.residual:
            attended = x + attended
        fed = x + attended if self.variant.feeds_sum else attended
        out: Tensor = attended + self.feed_forward(fed)
        if self.norm is not None:
            out = self.norm(out)
        return out


class Mixture(nn.Module):
    """A mean of earlier outputs with learned weights, the softmax of ``logits`` ``[n]``."""

    def __init__(self, outputs: int, *, last_first: bool) -> None:
        super().__init__()
        self.last_first = last_first
        self.logits = nn.Parameter(torch.empty(outputs))

    def weights(self) -> Tensor:
        """``[n]``, positive, of sum 1."""
        return self.logits.softmax(0)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """``n`` times ``[B, T, H]`` to one."""
        first, *others = self.weights().unbind()
        mixed = states[0] * first
        for state, weight in zip(states[1:], others, strict=True):
            mixed = torch.addcmul(mixed, state, weight)
        return mixed
