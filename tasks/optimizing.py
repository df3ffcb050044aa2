"""LAMB, and learning rates by layer, which the transformers ``Trainer`` does not have."""

from __future__ import annotations

import re
from typing import Any, Final

from torch import nn
from torch.optim import Optimizer

from embshare.errors import InvalidValueError, MissingPackageError
from embshare.optim import parameter_groups, tables_of
from embshare.runtime.bank import bank_of
from embshare.tasks.settings import TrainSettings

__all__ = ["decay_by_layer", "make_lamb", "rated_groups"]

LAYER: Final = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")


def rated_groups(
    model: nn.Module, settings: TrainSettings, *, lr: float, weight_decay: float, hidden_lr: float
) -> list[dict[str, Any]]:
    """Make `embshare.parameter_groups` with `table_decay` and `layer_decay` of the settings.

    Raises:
        InvalidValueError: as `decay_by_layer`.
    """
    groups = parameter_groups(model, lr=lr, weight_decay=weight_decay, hidden_lr=hidden_lr)
    for group in groups:
        if group["name"] == "table":
            group["weight_decay"] *= settings.table_decay
    return decay_by_layer(model, groups, settings.layer_decay)


def make_lamb(groups: list[dict[str, Any]], settings: TrainSettings) -> Optimizer:
    """Make LAMB: Adam's step, scaled in each tensor by the tensor's norm over the step's.

    Weight decay is part of the step that is scaled. Tensors without weight decay (biases, norms)
    take Adam's step as it is, as in apex and in the training of ELC-BERT and LTG-BERT. The ratio
    is not clipped. Gradients are clipped by the trainer, not here.

    Args:
        groups: parameter groups with learning rates and weight decays.
        settings: source of ``betas`` and ``epsilon``.
    Raises:
        MissingPackageError: timm, whose implementation this is, is not installed.
    Source:
        You et al. 2020, Large Batch Optimization for Deep Learning, algorithm 2.
    """
    try:
        from timm.optim.lamb import Lamb
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="timm", extra="vision") from error
    return Lamb(
        groups,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        max_grad_norm=None,
        always_adapt=False,
    )


def decay_by_layer(
    model: nn.Module, groups: list[dict[str, Any]], decay: float
) -> list[dict[str, Any]]:
    """Split groups by layer, with learning rates that fall from the head to the embeddings.

    The factor is ``decay ** (L + 2 - depth)`` for a model of ``L`` layers: depth 0 are embeddings,
    ``i + 1`` is layer ``i``, and ``L + 2`` is the head, which is all the rest. timm's
    ``param_groups_layer_decay`` is the same rule, but makes other groups, without the learning
    rates of tables and hidden matrices.

    Args:
        model: dense model with layer numbers in its names (``layers.0``, ``layer.0``, ``h.0``).
        groups: groups of `embshare.parameter_groups`.
        decay: factor per layer; 1 leaves the groups as they are.
    Raises:
        InvalidValueError: the model is shared, so that layers have no weights of their own, or its
            layers have no numbers.
    Source:
        ELECTRA's fine-tuning (Clark et al. 2020), which ConvBERT took over.
    """
    if decay == 1:
        return groups
    depths, top = _depths(model)
    found: list[dict[str, Any]] = []
    for group in groups:
        parts: dict[int, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(depths[parameter], []).append(parameter)
        for depth, parameters in sorted(parts.items()):
            rate = group["lr"] * decay ** (top - depth)
            found.append({**group, "params": parameters, "lr": rate})
    return found


def _depths(model: nn.Module) -> tuple[dict[nn.Parameter, int], int]:
    """Find the depth of each parameter, and of the head."""
    numbers = {name: LAYER.search(name) for name, _ in model.named_parameters()}
    layers = [int(number[1]) for number in numbers.values() if number]
    if not layers or bank_of(model) is not None:
        finding = "its layers are shared" if layers else "no layer has a number in its name"
        fault = f"`layer_decay` must be 1 for this model: {finding}"
        raise InvalidValueError(what="training", faults=[fault])
    top, tables = max(layers) + 3, set(tables_of(model))
    depths: dict[nn.Parameter, int] = {}
    for name, parameter in model.named_parameters():
        if number := numbers[name]:
            depths[parameter] = int(number[1]) + 1
        else:
            depths[parameter] = 0 if parameter in tables or "embed" in name else top
    return depths, top
