"""Optimizers and schedules beside those that the transformers ``Trainer`` brings."""

from __future__ import annotations

import math
import re
from typing import Any, Final

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from embshare.errors import InvalidValueError, MissingPackageError
from embshare.optim import parameter_groups, tables_of
from embshare.runtime.bank import bank_of
from embshare.tasks.settings import TrainSettings

__all__ = ["factor_of_step", "fall_by_layer", "make_lamb", "rated_groups", "schedule_with_floor"]

LAYER: Final = re.compile(r"(?:^|\.)(?:layers?|blocks?|h)\.(\d+)\.")


def rated_groups(
    model: nn.Module, settings: TrainSettings, *, lr: float, weight_decay: float, hidden_lr: float
) -> list[dict[str, Any]]:
    """`embshare.parameter_groups` with the settings' decay of tables and of layers' rates.

    Raises:
        InvalidValueError: as `fall_by_layer`.
    """
    groups = parameter_groups(model, lr=lr, weight_decay=weight_decay, hidden_lr=hidden_lr)
    for group in groups:
        if group["name"] == "table":
            group["weight_decay"] *= settings.table_decay
    return fall_by_layer(model, groups, settings.layer_decay)


def make_lamb(groups: list[dict[str, Any]], settings: TrainSettings) -> Optimizer:
    """LAMB: Adam's step, scaled in each tensor by the tensor's norm over the step's.

    Weight decay is part of the step that is scaled. Tensors without weight decay (biases, norms)
    take Adam's step as it is, as in apex and in the training of ELC-BERT and LTG-BERT. The ratio
    is not clipped. Gradients are clipped by the trainer, not here.

    Args:
        groups: of `embshare.parameter_groups`.
        settings: for ``betas`` and ``epsilon``; rates and decays stand in the groups.
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


def fall_by_layer(
    model: nn.Module, groups: list[dict[str, Any]], decay: float
) -> list[dict[str, Any]]:
    """Groups whose learning rates fall from the head to the embeddings.

    The factor is ``decay ** (L + 2 - depth)`` for a model of ``L`` layers: depth 0 are embeddings,
    ``i + 1`` is layer ``i``, and ``L + 2`` is whatever is neither, the head.

    Args:
        model: dense; its layers have numbers in their names (``layers.0``, ``layer.0``, ``h.0``).
        groups: of `embshare.parameter_groups`.
        decay: 1 leaves the groups as they are.
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
    """Where each parameter stands, and where the head does."""
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


def schedule_with_floor(optimizer: Optimizer, settings: TrainSettings, *, steps: int) -> LambdaLR:
    """The schedule of some settings whose ``floor`` is above zero."""
    warmup, line = settings.steps_of_warmup(steps), settings.schedule == "linear"

    def factor(step: int) -> float:
        return factor_of_step(step, steps=steps, warmup=warmup, floor=settings.floor, line=line)

    return LambdaLR(optimizer, factor)


def factor_of_step(step: int, *, steps: int, warmup: int, floor: float, line: bool) -> float:
    """What the highest learning rate is multiplied by.

    Args:
        step: from 0.
        steps: of the whole run.
        warmup: steps in which the rate rises from 0 along a line.
        floor: what it comes down to.
        line: down along a line; otherwise along half a cosine.
    """
    if step < warmup:
        return step / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    height = 1 - progress if line else (1 + math.cos(math.pi * progress)) / 2
    return floor + (1 - floor) * height
