"""Targets of the generator and inputs of the discriminator, as pure functions.

Axis letters: B batch, T positions, M predictions of one sequence, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from embshare.errors import InvalidValueError
from embshare.models.convbert.config import ConvBertConfig

__all__ = ["Masked", "draw_words", "mask_words", "replace_words"]

TINY = 1e-9
"""Keeps the logarithms of uniform noise finite, as officially."""


@dataclass(frozen=True)
class Masked:
    """A batch with some of its tokens masked."""

    input_ids: Tensor
    """``[B, T]``, what the generator sees."""
    positions: Tensor
    """``[B, M]``, drawn with replacement; 0 where there are fewer to predict."""
    words: Tensor
    """``[B, M]``, the tokens that are there."""
    scored: Tensor
    """``[B, M]``, true where there is something to predict."""


def mask_words(
    input_ids: Tensor,
    attention_mask: Tensor,
    config: ConvBertConfig,
    generator: torch.Generator | None = None,
) -> Masked:
    """Choose what is predicted, and mask ``config.mask_share`` of it.

    Of each sequence ``max(1, min(M, round(mask_probability * words)))`` positions are drawn, with
    replacement, from those that hold no special token. What is not masked stays as it is; no
    random tokens are put in.

    Args:
        input_ids: ``[B, T]``.
        attention_mask: ``[B, T]``, 1 at tokens and 0 at padding.
        config: the probabilities and the special tokens.
        generator: the random numbers; None is PyTorch's own.
    Raises:
        InvalidValueError: a sequence has nothing but special tokens.
    Source:
        The official ``pretrain_helpers.mask``.
    """
    special = (config.cls_token_id, config.sep_token_id, config.mask_token_id)
    allowed = attention_mask.bool() & ~torch.isin(
        input_ids, torch.tensor(special, device=input_ids.device)
    )
    if not bool(allowed.any(-1).all()):
        raise InvalidValueError(
            what="the input",
            faults=["a sequence has no word to mask: leave out those of special tokens alone"],
        )
    most = config.max_predictions
    wanted = (attention_mask.sum(-1) * config.mask_probability).round().clamp(1, most)
    scored = torch.arange(most, device=input_ids.device) < wanted[:, None]
    drawn = torch.multinomial(allowed.float(), most, replacement=True, generator=generator)
    positions = drawn * scored
    hidden = _uniform(positions, generator) < config.mask_share
    masks = torch.full_like(positions, config.mask_token_id)
    return Masked(
        input_ids=replace_words(input_ids, masks, positions * hidden),
        positions=positions,
        words=input_ids.gather(1, positions) * scored,
        scored=scored,
    )


def replace_words(input_ids: Tensor, words: Tensor, positions: Tensor) -> Tensor:
    """Put other tokens at some positions; one at position 0 is ignored.

    Officially, and so here, several tokens for one position are averaged: the floor of the mean of
    their ids, which is a third token where they differ.

    Args:
        input_ids: ``[B, T]``.
        words: ``[B, M]``.
        positions: ``[B, M]``.
    Returns:
        ``[B, T]``.
    Source:
        The official ``pretrain_helpers.scatter_update``.
    """
    total = torch.zeros_like(input_ids).scatter_add(1, positions, words)
    times = torch.zeros_like(input_ids).scatter_add(1, positions, torch.ones_like(positions))
    written = times > 0
    written[:, 0] = False
    mean = total.div(times.clamp(min=1), rounding_mode="floor")
    return torch.where(written, mean, input_ids)


def draw_words(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw from the softmax of ``[..., V]`` by Gumbel noise, without a gradient.

    Source:
        The official ``pretrain_helpers.sample_from_softmax``.
    """
    with torch.no_grad():
        noise = -torch.log(-torch.log(_uniform(logits, generator) + TINY) + TINY)
        return (logits.float() + noise).argmax(-1)


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device)
