"""Lay a recurrent module's derived weights out as cuDNN wants them: in one chunk of memory.

cuDNN reads all weights and biases from one buffer; handed separate tensors it warns and packs
them again at every call. Derived weights change at every step, so they are packed here, once per
derivation, and gradients go back to each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends.cudnn import rnn

__all__ = ["packed"]


def packed(layer: nn.RNNBase, weights: Sequence[Tensor]) -> list[Tensor]:
    """Copies of ``weights`` that are views of one buffer in cuDNN's order, with their gradients.

    Args:
        layer: gives mode and sizes; not changed.
        weights: in the order of ``_flat_weights_names``, on a GPU, of one dtype or several.
    Returns:
        As many tensors; the inputs themselves where cuDNN cannot take them.
    """
    first = weights[0]
    if not torch.backends.cudnn.is_acceptable(first):
        return list(weights)
    with torch.enable_grad():
        alike = [w.to(first.dtype) for w in weights]
        return list(_Pack.apply(layer, *alike))


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layer: nn.RNNBase, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        views = [weight.detach().contiguous().clone() for weight in weights]
        per_layer = (4 if layer.bias else 2) + (1 if layer.proj_size > 0 else 0)
        torch._cudnn_rnn_flatten_weight(  # moves each view into the common buffer
            views,
            per_layer,
            layer.input_size,
            rnn.get_cudnn_mode(layer.mode),
            layer.hidden_size,
            layer.proj_size,
            layer.num_layers,
            layer.batch_first,
            bool(layer.bidirectional),
        )
        return tuple(views)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return (None, *grads)
