"""ELC-BERT and LTG-BERT: ordinary layers, which know nothing of sharing, and their encoder.

Axis letters: B batch, T positions, H width, A heads, I inner width, C buckets, R = 2 C - 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling

from embshare.models._bert import BertModel, BertPreTrainedModel, look_up
from embshare.models.elc_bert.config import SPAN, VARIANTS, ElcBertConfig
from embshare.models.elc_bert.positions import bucket_indices
from embshare.models.hub import tuple_on_request

__all__ = [
    "ElcBertAttention",
    "ElcBertEmbeddings",
    "ElcBertEncoder",
    "ElcBertFeedForward",
    "ElcBertLayer",
    "ElcBertModel",
    "ElcBertPreTrainedModel",
    "Mixture",
    "bare_norm",
]


def bare_norm(width: int, config: ElcBertConfig) -> nn.LayerNorm:
    """A norm without parameters."""
    return nn.LayerNorm(width, eps=config.layer_norm_eps, elementwise_affine=False)


class ElcBertEmbeddings(nn.Module):
    """Tokens, normed; and the one table of relative positions ``[R, H]`` that all layers read."""

    def __init__(self, config: ElcBertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.relative = nn.Parameter(torch.empty(2 * config.position_bucket_size - 1, width))
        self.word_norm = bare_norm(width, config)
        self.relative_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, input_ids: Tensor | None, inputs_embeds: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``[B, T]`` to ``[B, T, H]`` and ``[R, H]``; embeddings ``[B, T, H]`` in place of ids.

        Raises:
            InvalidValueError: not one of ids and embeddings.
        """
        tokens = look_up(self.word_embeddings, input_ids, inputs_embeds)
        return self.dropout(self.word_norm(tokens)), self.relative_norm(self.relative)


class ElcBertAttention(nn.Module):
    """Attention between two norms, to tokens and to relative positions.

    With queries and keys of tokens ``q, k`` and of relative positions ``q', k'``, made by the same
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
            buckets: bucket of each pair of positions, ``[T, T]``.
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


class ElcBertEncoder(nn.Module):
    """The layers, and the mixtures that they read: ``mixtures[n]`` of outputs 0 to ``n``.

    Output 0 is the embeddings of tokens; LTG-BERT has no mixtures.
    """

    def __init__(self, config: ElcBertConfig) -> None:
        super().__init__()
        self.config = config
        self.variant = VARIANTS[config.variant]
        depth = config.num_hidden_layers
        self.layers = nn.ModuleList(ElcBertLayer(config, depth=n) for n in range(depth))
        number = (depth + self.variant.mixes_output) if self.variant.mixes else 0
        first = self.variant.last_first
        self.mixtures = nn.ModuleList(Mixture(n + 1, last_first=first) for n in range(number))

    def forward(
        self, x: Tensor, relative: Tensor, attention_mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        """``x`` ``[B, T, H]``, every layer's output, and the last mixture where there is one.

        Args:
            x: embeddings of tokens.
            relative: normed relative positions ``[R, H]``.
            attention_mask: ``[B, T]``, 1 at tokens and 0 at padding; None is 1 everywhere.
        """
        buckets = self._buckets(x)
        padding = None if attention_mask is None else attention_mask[:, None, None, :] == 0
        states = [x]
        for number, layer in enumerate(self.layers):
            x = self.mixtures[number](states) if self.variant.mixes else states[-1]
            states.append(layer(x, relative, buckets, padding))
        if self.variant.mixes_output:
            states.append(self.mixtures[-1](states))
        return tuple(states)

    def _buckets(self, x: Tensor) -> Tensor:
        length, span = x.shape[1], self.config.max_position_embeddings
        if length > span:
            span = length if self.variant.stretches else SPAN
        return bucket_indices(
            length, buckets=self.config.position_bucket_size, span=span, device=x.device
        )


class ElcBertPreTrainedModel(BertPreTrainedModel):
    """Matrices start from a normal distribution, cut at two deviations of ``sqrt(2 / (5 H))``.

    Those of the feed-forward part in layer ``i``, from 0, are smaller by ``sqrt(1 / (2 (1 + i)))``.
    """

    config_class = ElcBertConfig
    base_model_prefix = "bert"
    _no_split_modules = ["ElcBertLayer"]  # noqa: RUF012

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
        std = math.sqrt(2 / (5 * self.config.hidden_size)) * scale
        if (stored := owner._parameters.get(name)) is not None:  # not a derived one
            nn.init.trunc_normal_(stored, std=std, a=-2 * std, b=2 * std)


@torch.no_grad()
def _start_mixture(mixture: Mixture) -> None:
    logits = mixture.logits
    nn.init.zeros_(logits)
    if mixture.last_first and not getattr(logits, "_is_hf_initialized", False):  # was loaded
        logits[-1] = 1.0


class ElcBertModel(BertModel, ElcBertPreTrainedModel):
    """An encoder of one of the five variants, of ordinary layers; it has no pooler.

    Args:
        config: variant and sizes.
    Raises:
        InvalidValueError: the settings were changed to what cannot be built.
    Source:
        Charpentier & Samuel, Not all layers are equally as important: Every Layer Counts BERT,
        BabyLM 2023; Samuel et al., Trained on 100 million words and still in shape: BERT meets
        British National Corpus, Findings of EACL 2023.
    """

    embeddings: ElcBertEmbeddings

    def __init__(self, config: ElcBertConfig) -> None:
        super().__init__(config)
        self.embeddings = ElcBertEmbeddings(config)
        self.encoder = ElcBertEncoder(config)
        self.post_init()

    def _states(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        inputs_embeds: Tensor | None,
    ) -> tuple[Tensor, ...]:
        embedded, relative = self.embeddings(input_ids, inputs_embeds)
        states: tuple[Tensor, ...] = self.encoder(embedded, relative, attention_mask)
        return states

    def _pool(self, last: Tensor) -> Tensor | None:
        return None

    @tuple_on_request
    def forward(  # type: ignore[override]  # it has no segments, and says so by its signature
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """Encode a batch, of any length; there are no segments and no pooler.

        Args:
            input_ids: ``[B, T]``.
            attention_mask: ``[B, T]``, 1 at tokens and 0 at padding; None is 1 everywhere.
            inputs_embeds: ``[B, T, H]`` in place of the looked-up tokens, before their norm.
            output_hidden_states: return the embeddings of tokens and every layer's output, and
                their last mixture where the variant has one.
        Returns:
            ``last_hidden_state`` ``[B, T, H]``.
        Raises:
            InvalidValueError: not one of ids and embeddings.
        """
        given = (input_ids, attention_mask, None, inputs_embeds, output_hidden_states)
        return super().forward(*given, return_dict=True)  # type: ignore[call-arg]
