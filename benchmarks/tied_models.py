"""Tied models of low rank: one product of two thin matrices for each role.

What one would do without a table to derive weights from, where one parameter for each role
(``method: own``) is too large. Named by study files as ``benchmarks.tied_models:FUNCTION``.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

import embshare
from embshare.models.matched import Architecture, MatchedConfig, MatchedLanguageModel

__all__ = [
    "attention_rank_6",
    "attention_rank_48",
    "conv_rank_8",
    "conv_rank_67",
    "tie",
]

WIDTH: Final = 192
LAYERS: Final = 4
DROPOUT: Final = 0.1


def _tied(architecture: Architecture, rank: int, vocab_size: int) -> nn.Module:
    config = MatchedConfig(
        architecture=architecture,
        vocab_size=vocab_size,
        width=WIDTH,
        layers=LAYERS,
        dropout=DROPOUT,
    )
    return tie(MatchedLanguageModel(config), rank)


conv_rank_8 = partial(_tied, "conv", 8)  # torch's LSTM reads no parametrized weights
conv_rank_67 = partial(_tied, "conv", 67)
attention_rank_6 = partial(_tied, "attention", 6)
attention_rank_48 = partial(_tied, "attention", 48)


def tie(model: nn.Module, rank: int) -> nn.Module:
    """Give all layers of a role one product of that rank; a dense model is changed in place."""
    modules = dict(model.named_modules())
    for slot in embshare.plan_sharing(model, embshare.ShareConfig(method="own")).slots:
        (first, leaf), *others = (
            (modules[owner], leaf)
            for owner, _, leaf in (name.rpartition(".") for name in slot.weights)
        )
        for module, name in others:
            setattr(module, name, first._parameters[leaf])
        for module, name in ((first, leaf), *others):
            register_parametrization(module, name, Product(rank, slot.shape))
            module.parametrizations[name] = first.parametrizations[leaf]
    return model


class Product(nn.Module):
    """A weight, read as a matrix, is the product of two; they start as the best for its start.

    A start that is random loses much to a low rank, so both are scaled up to its norm.
    """

    def __init__(self, rank: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.rank, self.shape = rank, shape

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The factors, ``[rows, rank]`` and ``[rank, columns]``."""
        left, values, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        kept = values[: self.rank]
        root = (kept * values.norm() / kept.norm()).sqrt()
        return left[:, : self.rank] * root, root[:, None] * right[: self.rank]

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """The weight."""
        return (left @ right).view(self.shape)
