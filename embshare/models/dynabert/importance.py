"""`importance`: how much the loss depends on each head and each neuron, to first order.

A factor of 1 is put on each of them, and the loss is differentiated by the factors. For neurons
that is the official sum of weights times gradients, and it also holds where several layers read one
weight, as in a shared model: each layer has its own factors.

Letters: L layers, n heads of width s, m neurons.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.models.dynabert.blocks import Block, blocks, stored_in
from embshare.models.dynabert.sizes import evaluating, sized

__all__ = ["Importance", "importance"]


@dataclass(frozen=True)
class Importance:
    """One number for each head and each neuron; more is more important."""

    heads: Tensor
    """``[L, n]``."""
    neurons: Tensor
    """``[L, m]``."""


def importance(
    model: nn.Module, batches: Iterable[Mapping[str, Any]], *, accumulate: bool = True
) -> Importance:
    """First-order importance of heads and neurons, summed over batches.

    The importance of a head is ``|dL/dh|`` for a factor ``h`` on its attention; of a neuron
    ``|sum w1 g1 + b1 gb1| + |sum w2 g2|`` over its row of the first matrix and its column of the
    second. The model is evaluated at full size, without dropout; its gradients are not touched.

    Args:
        model: with a head that returns a loss; plain or shared.
        batches: keyword arguments of its forward, labels among them. The official code takes the
            validation set in batches of 8.
        accumulate: True as officially: gradients are not set to zero between batches, so the t-th
            batch adds the size of the *sum* of the first t gradients, and the order of batches
            matters. False adds each batch's own.
    Raises:
        InvalidValueError: no batch, no loss, or a loss that is not finite.
    Source:
        The official ``compute_neuron_head_importance``; Michel et al., 2019; Molchanov et al.,
        2017.
    """
    with sized(model), evaluating(model), _factors(blocks(model)) as factors:
        total = [torch.zeros_like(factor) for factor in factors]
        scores = [torch.zeros_like(factor) for factor in factors]
        seen = 0
        for batch in batches:
            gradients = torch.autograd.grad(_loss(model, batch), factors)
            for index, gradient in enumerate(gradients):
                total[index] = total[index] + gradient if accumulate else gradient
                scores[index] += total[index].abs()
            seen += 1
    if not seen:
        raise InvalidValueError(what="the batches", faults=["there must be at least one"])
    heads, before, after = (torch.stack(scores[part::3]) for part in range(3))
    return Importance(heads=heads, neurons=before + after)


def _loss(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    device = next(model.parameters()).device
    given = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    with torch.enable_grad():
        loss = getattr(model(**given), "loss", None)
    if not isinstance(loss, Tensor) or not bool(loss.isfinite()):
        has = f"it is {loss.detach().item():.4g}" if isinstance(loss, Tensor) else "there is none"
        fault = f"the model must return a finite `loss`, but {has}: give it `labels`"
        raise InvalidValueError(what="a batch", faults=[fault])
    return loss


@contextmanager
def _factors(found: tuple[Block, ...]) -> Iterator[list[Tensor]]:
    """Three factors of 1 for each layer, which the model multiplies by while the context lasts.

    On heads ``[n]``; on what neurons compute, ``W1 x + b1``, ``[m]``; on what they pass on to
    ``W2``, ``[m]``.
    """
    made: list[Tensor] = []
    with ExitStack() as hooks:
        for block in found:
            attention, feed_forward = block.attention, block.feed_forward
            like = stored_in(feed_forward.outer)
            kind = torch.promote_types(like.dtype, torch.float32)
            counts = (attention.count, feed_forward.count, feed_forward.count)
            heads, before, after = (
                torch.ones(count, dtype=kind, device=like.device, requires_grad=True)
                for count in counts
            )
            made += (heads, before, after)
            for handle in (
                attention.outer.register_forward_pre_hook(partial(_scale, heads, attention.unit)),
                feed_forward.inner[0].register_forward_hook(partial(_scale, before, 1)),
                feed_forward.outer.register_forward_pre_hook(partial(_scale, after, 1)),
            ):
                hooks.enter_context(handle)
        yield made


def _scale(
    factor: Tensor, unit: int, _: nn.Module, given: tuple[Tensor], result: Tensor | None = None
) -> Tensor:
    """Multiply a layer's output, or its input where the hook runs before the layer."""
    found = given[0] if result is None else result
    return found * factor.repeat_interleave(unit).to(found.dtype)
