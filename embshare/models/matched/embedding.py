"""Embedding, initialization and loss of all models of the family."""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = ["IGNORED", "embed", "hidden_parameters", "initialise_", "sequence_loss", "tie_head_"]

IGNORED: Final = -100
"""The label of a position that is not scored, as in torch and transformers."""


def embed(table: nn.Embedding, input_ids: Tensor) -> Tensor:
    """Embed tokens with a standard deviation of about 1, ``[B, T]`` to ``[B, T, D]``.

    The table is initialized with a standard deviation of ``1 / sqrt(D)``, so that the tied head's
    outputs have one of about 1; the factor here undoes that for the inputs (Vaswani et al. 2017,
    section 3.4).
    """
    rows: Tensor = table(input_ids)
    return rows * math.sqrt(table.embedding_dim)


@torch.no_grad()
def initialise_(model: nn.Module) -> None:
    """Initialize a model: a table of std ``1 / sqrt(D)``, zero biases, open forget gates.

    Weights of layers keep torch's own start. An LSTM's forget gate gets a bias of 1, so that it
    remembers before it has learned to (Jozefowicz et al. 2015).
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear | nn.Conv1d) and module.bias is not None:
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            _open_forget_gates_(module)


def _open_forget_gates_(lstm: nn.LSTM) -> None:
    """torch stacks the gates as i, f, g, o and adds two biases; one of them carries the 1."""
    for name, bias in lstm.named_parameters():
        if name.startswith("bias"):
            bias.zero_()
            if name.startswith("bias_ih"):
                bias.view(4, -1)[1] = 1.0


def tie_head_(head: nn.Linear, table: nn.Embedding) -> None:
    """Let the head read the table: one parameter with two names."""
    head.weight = table.weight


def hidden_parameters(model: nn.Module) -> int:
    """Elements that a dense model stores outside its embedding tables; each counted once."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return sum(p.numel() for p in model.parameters() if id(p) not in tables)


def sequence_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats of ``labels`` ``[B, T]`` under ``logits`` ``[B, T, V]``.

    Labels are those of the same positions: models that predict the next token shift them before.
    Labels of -100 do not count; where all are, the loss is 0 with a gradient of zeros, not NaN.
    """
    total = F.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / labels.ne(IGNORED).sum().clamp(min=1)
