"""Second moments of the inputs that each weight multiplies, measured on calibration inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from embshare.plan.values import SharePlan

__all__ = ["Inputs", "inputs_of_weights"]


class Inputs(NamedTuple):
    """What one weight multiplies."""

    dimension: int
    """The dimension of the weight that counts input features."""
    moment: Tensor
    """``[in, in]`` in float64: the mean of ``x x^T`` over all positions."""


@torch.no_grad()
def inputs_of_weights(
    model: nn.Module, plan: SharePlan, calibration: Sequence[object]
) -> dict[str, Inputs]:
    """Run a model and average the outer products of each layer's input features.

    Args:
        model: dense; run in evaluation mode, left as it was.
        plan: names the weights.
        calibration: one call each: a mapping is keyword arguments, a tuple positional ones,
            anything else the one argument.
    Returns:
        Name of a weight -> its inputs. Weights that are no matrices (convolutions) and those whose
        input cannot be seen from outside their module (deeper layers of a stacked recurrent one,
        keys and values of attention) are left out.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    owners = {name: modules[name.rpartition(".")[0]] for name in plan.weights()}
    sums: dict[nn.Module, Tensor] = {}
    counts: dict[nn.Module, int] = {}

    def watch(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        given = args[0] if args else next(iter(kwargs.values()), None)
        given = getattr(given, "data", given)  # a packed sequence
        if not isinstance(given, Tensor) or not given.is_floating_point() or not given.dim():
            return
        flat = given.reshape(-1, given.shape[-1]).float()
        sums[layer] = sums.get(layer, 0) + (flat.t() @ flat).to(torch.float64)
        counts[layer] = counts.get(layer, 0) + len(flat)

    handles = [
        layer.register_forward_pre_hook(watch, with_kwargs=True) for layer in {*owners.values()}
    ]
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
    for layer, total in sums.items():
        total.div_(counts[layer])  # in place: of a wide model they are large
    found = {}
    for slot in plan.slots:
        for name in slot.weights:
            layer = owners[name]
            dimension = _input_dimension(layer, name.rpartition(".")[2])
            if dimension is None or layer not in sums:
                continue
            if slot.shape[dimension] == len(sums[layer]):
                found[name] = Inputs(dimension, sums[layer])
    return found


def _call(model: nn.Module, batch: object) -> None:
    if isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, tuple):
        model(*batch)
    else:
        model(batch)


def _input_dimension(layer: nn.Module, leaf: str) -> int | None:
    """The dimension of a weight that the layer's own input meets, or None."""
    if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)):
        first = leaf == "weight_ih" or leaf.startswith("weight_ih_l0")
        return 1 if first else None
    if isinstance(layer, nn.MultiheadAttention):
        return 1 if leaf == "in_proj_weight" else None
    if isinstance(layer, nn.Linear):
        return 1 if leaf == "weight" else None
    return 0 if type(layer).__name__ == "Conv1D" and leaf == "weight" else None
