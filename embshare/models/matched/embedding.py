"""What all models of the family do alike: embed symbols, start from good weights, count."""

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
    """Rows of the table with a spread of about 1 in every column, ``[B, T]`` to ``[B, T, D]``.

    The table starts with a spread of ``1 / sqrt(D)``, so that the tied head's outputs start with
    one of about 1; the factor here undoes that on the way in (Vaswani et al. 2017, section 3.4).
    """
    rows: Tensor = table(input_ids)
    return rows * math.sqrt(table.embedding_dim)


@torch.no_grad()
def initialise_(model: nn.Module) -> None:
    """Fill a new model: a table of spread ``1 / sqrt(D)``, no biases, LSTMs that start open.

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

    Position by position: whoever predicts the next symbol shifts before. Labels of -100 do not
    count; where all are, the loss is 0 and has a gradient of zeros, instead of being NaN.
    """
    total = F.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / labels.ne(IGNORED).sum().clamp(min=1)
