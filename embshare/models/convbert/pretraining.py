"""`ConvBertForPreTraining`: a small generator replaces tokens, and the model tells which.

Axis letters: B batch, T positions, M predictions of one sequence, E and H widths, V vocabulary.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from embshare.errors import InvalidValueError
from embshare.models.convbert.config import ConvBertConfig
from embshare.models.convbert.masking import Masked, draw_words, mask_words, replace_words
from embshare.models.convbert.model import (
    ConvBertEncoder,
    ConvBertModel,
    ConvBertPreTrainedModel,
    GlorotLinear,
)
from embshare.models.hub import tuple_on_request

__all__ = [
    "ConvBertForPreTraining",
    "ConvBertForPreTrainingOutput",
    "DiscriminatorHead",
    "GeneratorHead",
    "generator_config",
]

EPSILON = 1e-6
"""Added to counts of scored positions, as officially."""


def generator_config(config: ConvBertConfig) -> ConvBertConfig:
    """The generator's settings: fewer and narrower everything, four times wider in between.

    Raises:
        InvalidValueError: the ratio leaves no whole number of heads, or what cannot be built.
    Source:
        The official ``get_generator_config``, where the number of heads is a float.
    """
    ratio = config.generator_hidden_ratio
    heads = max(1.0, config.num_attention_heads * ratio)
    if abs(heads - round(heads)) > 1e-6:
        fault = (
            f"`generator_hidden_ratio` must leave a whole number of the "
            f"{config.num_attention_heads} heads, but {ratio:.4g} leaves {heads:.4g}"
        )
        raise InvalidValueError(what="the generator", faults=[fault])
    small = copy.deepcopy(config)
    small.hidden_size = round(config.hidden_size * ratio)
    small.num_hidden_layers = round(config.num_hidden_layers * config.generator_layer_ratio)
    small.num_attention_heads = round(heads)
    small.intermediate_size = 4 * small.hidden_size
    small.check()
    return small


@dataclass
class ConvBertForPreTrainingOutput(ModelOutput):
    """Losses, and what they are of."""

    loss: Tensor | None = None
    """The weighted sum of the next two."""
    generator_loss: Tensor | None = None
    """Mean over predicted positions."""
    discriminator_loss: Tensor | None = None
    """Mean over tokens, special ones included."""
    generator_logits: Tensor | None = None
    """``[B, M, V]``."""
    logits: Tensor | None = None
    """``[B, T]``: above 0 where the discriminator takes a token for replaced."""
    corrupted_ids: Tensor | None = None
    """``[B, T]``: what the discriminator saw."""
    replaced: Tensor | None = None
    """``[B, T]``: 1 where that is another token than was given."""


class GeneratorHead(nn.Module):
    """Scores the vocabulary with the table itself, and a bias."""

    def __init__(self, config: ConvBertConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """``[..., width]`` and the table ``[V, E]`` to ``[..., V]``."""
        return F.linear(self.norm(F.gelu(self.dense(x))), table, self.bias)


class DiscriminatorHead(nn.Module):
    """One number for each position."""

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.score = GlorotLinear(config.hidden_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, H]`` to ``[B, T]``."""
        scores: Tensor = self.score(F.gelu(self.dense(x)))
        return scores.squeeze(-1)


class ConvBertForPreTraining(ConvBertPreTrainedModel):
    """Generator and discriminator of ELECTRA's objective; what is kept of it is ``convbert``.

    Both read one block of embeddings, norm included, and the generator's tokens are scored by its
    table; only the projection to their widths is each one's own.

    Raises:
        InvalidValueError: no generator of these settings can be built.
    Source:
        Clark et al., ELECTRA, ICLR 2020; the official ``PretrainingModel``.
    """

    def __init__(self, config: ConvBertConfig) -> None:
        super().__init__(config)
        small = generator_config(config)
        self.convbert = ConvBertModel(config)
        self.generator = ConvBertEncoder(small)
        self.generator_head = GeneratorHead(config, small.hidden_size)
        self.discriminator_head = DiscriminatorHead(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, GeneratorHead):
            nn.init.zeros_(module.bias)

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Take another table; the bias of new tokens is 0."""
        self.convbert.set_input_embeddings(value)
        assert isinstance(value.weight, Tensor)
        added = value.weight.shape[0] - self.generator_head.bias.shape[0]
        bias = F.pad(self.generator_head.bias.detach(), (0, added))  # a negative number cuts
        self.generator_head.bias = nn.Parameter(bias)

    @tuple_on_request
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> ConvBertForPreTrainingOutput:
        """Mask tokens, replace them, and score both models.

        Args:
            input_ids: ``[B, T]``, whole: tokens are masked here, anew in each call.
            attention_mask: ``[B, T]``, 1 at tokens and 0 at padding; None is 1 everywhere.
            token_type_ids: ``[B, T]``; None is 0 everywhere.
            generator: the random numbers of masking and sampling, not of dropout; None is
                PyTorch's own.
        Raises:
            InvalidValueError: too many positions, or a sequence without a token to mask.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        masked = mask_words(input_ids, attention_mask, self.config, generator)
        words = self.score_masked(masked, attention_mask, token_type_ids)
        missed = F.cross_entropy(words.transpose(1, 2), masked.words, reduction="none")
        drawn = draw_words(words, generator)
        corrupted = replace_words(input_ids, drawn, masked.positions)
        replaced = (corrupted != input_ids).long()
        states = self.convbert(corrupted, attention_mask, token_type_ids, return_dict=True)
        logits = self.discriminator_head(states.last_hidden_state)
        wrong = F.binary_cross_entropy_with_logits(
            logits, replaced.to(logits.dtype), reduction="none"
        )
        generator_loss = mean_of(missed, masked.scored)
        discriminator_loss = mean_of(wrong, attention_mask)
        return ConvBertForPreTrainingOutput(
            loss=self.config.generator_weight * generator_loss
            + self.config.discriminator_weight * discriminator_loss,
            generator_loss=generator_loss,
            discriminator_loss=discriminator_loss,
            generator_logits=words,
            logits=logits,
            corrupted_ids=corrupted,
            replaced=replaced,
        )

    def score_masked(
        self, masked: Masked, attention_mask: Tensor, token_type_ids: Tensor | None
    ) -> Tensor:
        """The generator's scores ``[B, M, V]`` of what is masked."""
        embeddings = self.convbert.embeddings
        states = self.generator(embeddings(masked.input_ids, token_type_ids), attention_mask)[-1]
        places = masked.positions[..., None].expand(-1, -1, states.shape[-1])
        scores: Tensor = self.generator_head(
            states.gather(1, places), embeddings.word_embeddings.weight
        )
        return scores


def mean_of(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of ``losses`` where ``weights`` are 1, both of one shape."""
    weights = weights.to(losses.dtype)
    return (losses * weights).sum() / (weights.sum() + EPSILON)
