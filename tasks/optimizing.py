"""Optimizers and schedules beside those that the transformers ``Trainer`` brings."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from embshare.errors import MissingPackageError
from embshare.tasks.settings import TrainSettings

__all__ = ["factor_of_step", "make_lamb", "schedule_with_floor"]


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


def schedule_with_floor(optimizer: Optimizer, settings: TrainSettings, *, steps: int) -> LambdaLR:
    """The schedule of some settings whose ``floor`` is above zero."""
    warmup, line = round(settings.warmup * steps), settings.schedule == "linear"

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
