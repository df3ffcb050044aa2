"""Small models of random weights, and a padded batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from embshare.models.convbert import ConvBertConfig

SETTINGS: dict[str, Any] = {
    "vocab_size": 40,
    "embedding_size": 8,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "conv_kernel_size": 5,
    "max_position_embeddings": 12,
    "generator_hidden_ratio": 0.5,
    "max_predictions": 4,
    "mask_probability": 0.4,
    "answer_hidden_size": 10,
    "answer_beams": 3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "classifier_dropout": 0.0,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "mask_token_id": 3,
}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no projection": {"embedding_size": 16},
    "two groups": {"num_groups": 2},
    "three positions": {"conv_kernel_size": 3},
    "a quarter of the heads": {"head_ratio": 4},
    "all of the heads": {"head_ratio": 1},
    "one head": {"num_attention_heads": 1},
    "a ratio above the heads": {"num_attention_heads": 2, "head_ratio": 4},
}
EXACT = ("plain", "no projection", "two groups", "three positions", "a ratio above the heads")
"""Cases in which transformers has the same model."""

IDS = torch.tensor([[1, 9, 17, 30, 8, 22, 2], [1, 35, 11, 26, 2, 0, 0]])
MASK = (IDS != 0).long()
TYPES = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0, 0]])


def config(**settings: Any) -> ConvBertConfig:
    """Tiny configuration without dropout."""
    return ConvBertConfig(**(SETTINGS | settings))


def made(kind: Any, seed: int = 0, **settings: Any) -> Any:
    """A double-precision model whose every number is random and far from its start."""
    model = kind(config(**settings)).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
            parameter.copy_(0.4 * noise + (1.0 if parameter.dim() == 1 else 0.0))
    return model


def distance(ours: Any, theirs: Any) -> float:
    """The largest difference, as a share of the largest number."""
    first = ours.detach().double().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    second = np.asarray(theirs)
    assert first.shape == second.shape
    return float(np.abs(first - second).max() / max(np.abs(second).max(), 1e-12))
