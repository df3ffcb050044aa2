"""`importance`: how much the loss depends on each head and each neuron, to first order.

A factor of 1 is put on each of them, and the loss is differentiated by the factors. For neurons
that is the official sum of weights times gradients, and it also holds where a weight has no
gradient of its own: in a shared model several layers read one, and each has factors of its own.

Letters: L layers, n heads of width s, m neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from embshare.errors import InvalidValueError
from embshare.models.dynabert.blocks import Block, blocks
from embshare.models.dynabert.sizing import sized
from embshare.models.dynabert.ties import stored_in

__all__ = ["Importance", "importance"]


@dataclass(frozen=True)
class Importance:
    """One number for each head and each neuron; more is more important."""

    heads: Tensor
    """``[L, n]``."""
    neurons: Tensor
    """``[L, m]``."""


@dataclass
class Factors:
    """Ones that stand for a layer's parts, and the hooks that multiply by them."""

    heads: Tensor
    before: Tensor
    """On what a neuron sums up: ``W1 x + b1``."""
    after: Tensor
    """On what a neuron passes on, to ``W2``."""
    handles: list[RemovableHandle] = field(default_factory=list)


def importance(
    model: nn.Module, batches: Iterable[Mapping[str, Any]], *, accumulate: bool = True
) -> Importance:
    """First-order importance of heads and neurons, summed over batches.

    That of a head is ``|dL/dh|`` for a factor ``h`` on its attention; of a neuron
    ``|sum w1 g1 + b1 gb1| + |sum w2 g2|`` over its row of the first matrix and its column of the
    second. The model is evaluated at full size, without dropout; its gradients are not touched.

    Args:
        model: with a head that returns a loss; plain or shared.
        batches: keyword arguments of its forward, labels among them. The official code takes the
            development set in batches of 8.
        accumulate: True as officially: gradients are not set to zero between batches, so the t-th
            batch adds the size of the *sum* of the first t gradients, and the order of batches
            matters. False adds each batch's own.
    Raises:
        InvalidValueError: no batch, no loss, or one that is not finite.
    Source:
        The official ``compute_neuron_head_importance``; Michel et al., 2019; Molchanov et al.,
        2017.
    """
    found = blocks(model)
    with sized(model), _evaluating(model), _factors(found) as factors:
        inputs = [part for f in factors for part in (f.heads, f.before, f.after)]
        total = [torch.zeros_like(part) for part in inputs]
        scores = [torch.zeros_like(part) for part in inputs]
        seen = 0
        for batch in batches:
            gradients = torch.autograd.grad(_loss(model, batch), inputs)
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
        fault = f"the model must return a finite `loss`, but {_finding(loss)}: give it `labels`"
        raise InvalidValueError(what="a batch", faults=[fault])
    return loss


def _finding(loss: object) -> str:
    return f"it is {float(loss.detach()):.4g}" if isinstance(loss, Tensor) else "there is none"


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def _factors(found: tuple[Block, ...]) -> Iterator[list[Factors]]:
    made: list[Factors] = []
    try:
        for block in found:
            made.append(_put(block))
        yield made
    finally:
        for factors in made:
            for handle in factors.handles:
                handle.remove()


def _put(block: Block) -> Factors:
    like = stored_in(block.down)
    kind = torch.promote_types(like.dtype, torch.float32)

    def ones(count: int) -> Tensor:
        return torch.ones(count, dtype=kind, device=like.device, requires_grad=True)

    factors = Factors(ones(block.heads), ones(block.neurons), ones(block.neurons))
    factors.handles += [
        block.output.register_forward_pre_hook(
            _on_input(lambda: factors.heads.repeat_interleave(block.head_size))
        ),
        block.up.register_forward_hook(_on_output(lambda: factors.before)),
        block.down.register_forward_pre_hook(_on_input(lambda: factors.after)),
    ]
    return factors


Hook = Callable[..., Any]


def _on_input(factor: Callable[[], Tensor]) -> Hook:
    def hook(_: nn.Module, given: tuple[Tensor]) -> Tensor:
        return given[0] * factor().to(given[0].dtype)

    return hook


def _on_output(factor: Callable[[], Tensor]) -> Hook:
    def hook(_: nn.Module, given: Any, result: Tensor) -> Tensor:
        return result * factor().to(result.dtype)

    return hook
