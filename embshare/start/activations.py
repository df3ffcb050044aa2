"""Mean squares of the activations that each weight multiplies, measured on calibration inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from embshare.plan.values import SharePlan

__all__ = ["mean_square_inputs"]


@torch.no_grad()
def mean_square_inputs(
    model: nn.Module, plan: SharePlan, calibration: Sequence[object]
) -> dict[str, Tensor]:
    """Run a model and average the square of each layer's input features.

    Args:
        model: dense; run in evaluation mode, left as it was.
        plan: names the weights.
        calibration: one call each: a mapping is keyword arguments, a tuple positional ones,
            anything else the one argument.
    Returns:
        Name of a weight -> mean squares that broadcast to its shape, their mean over all weights
        being 1. Weights whose input cannot be seen from outside their module (recurrent ones,
        deeper layers of a stacked module) count 1 throughout.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    sums: dict[nn.Module, Tensor] = {}
    counts: dict[nn.Module, int] = {}
    layers = {modules[name.rpartition(".")[0]] for name in plan.weights()}

    def watch(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = args[0] if args else next(iter(kwargs.values()), None)
        given = getattr(given, "data", given)  # a packed sequence
        if not isinstance(given, Tensor) or not given.is_floating_point():
            return
        feature = 1 if isinstance(layer, nn.modules.conv._ConvNd) and given.dim() > 2 else -1
        flat = given.transpose(feature, -1).reshape(-1, given.shape[feature]).float()
        sums[layer] = sums.get(layer, 0) + flat.square().sum(0)
        counts[layer] = counts.get(layer, 0) + flat.shape[0]

    handles = [layer.register_forward_pre_hook(watch, with_kwargs=True) for layer in layers]
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        for batch in calibration:
            _call(model, batch)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return _shaped(plan, modules, {layer: sums[layer] / counts[layer] for layer in sums})


def _call(model: nn.Module, batch: object) -> None:
    if isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, tuple):
        model(*batch)
    else:
        model(batch)


def _shaped(
    plan: SharePlan, modules: dict[str, nn.Module], squares: dict[nn.Module, Tensor]
) -> dict[str, Tensor]:
    overall = (
        torch.stack([s.mean() for s in squares.values()]).mean() if squares else torch.tensor(1.0)
    )
    found: dict[str, Tensor] = {}
    for slot in plan.slots:
        per_reader = []
        for name in slot.weights:
            owner, _, leaf = name.rpartition(".")
            layer = modules[owner]
            inputs = squares.get(layer)
            shaped = (
                None if inputs is None else _for_weight(layer, leaf, slot.shape, inputs / overall)
            )
            if shaped is not None:
                per_reader.append(shaped)
        ones = torch.ones((1,) * len(slot.shape))
        found[slot.weights[0]] = torch.stack(per_reader).mean(0) if per_reader else ones
    return found


def _for_weight(
    layer: nn.Module, leaf: str, shape: tuple[int, ...], inputs: Tensor
) -> Tensor | None:
    """Mean squares along the weight's input dimension, or None where the input is another."""
    if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)) and not leaf.startswith(
        ("weight_ih_l0", "weight_ih")
    ):
        return None
    if isinstance(layer, nn.modules.conv._ConvTransposeNd) or type(layer).__name__ == "Conv1D":
        dimension = 0
    else:
        dimension = 1
    grouped = isinstance(layer, nn.modules.conv._ConvNd) and layer.groups > 1
    if (
        grouped
        or shape[dimension] != inputs.numel()
        or (leaf.startswith("weight_ih_l") and "_l0" not in leaf)
    ):
        return None
    return inputs.view([-1 if i == dimension else 1 for i in range(len(shape))])
