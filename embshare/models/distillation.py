"""Losses by which a model learns from another one: pure functions, for any task.

Letters: B batch, T positions, C classes, H width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from embshare.errors import InvalidValueError

__all__ = ["require_same_labels", "soft_cross_entropy", "state_loss"]


def soft_cross_entropy(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, where: Tensor | None = None
) -> Tensor:
    """Cross-entropy of a student's scores against a teacher's: the mean over all but the last axis.

    ``-sum softmax(teacher / t) log_softmax(student / t)``, times ``t²`` so that the gradient is of
    the same size at any temperature. No gradient reaches the teacher.

    Args:
        student: scores ``[..., C]`` before the softmax.
        teacher: as the student's.
        temperature: above 0; 1 is what DynaBERT uses.
        where: ``[...]`` of bool: what the mean is over, words that have a label for one; None is
            everything. Where it is false everywhere the loss is 0.
    Returns:
        A scalar.
    Raises:
        InvalidValueError: another shape, or a temperature that is not above 0.
    Source:
        Hinton et al., 2015; at 1 the official DynaBERT's ``soft_cross_entropy``.
    """
    if not temperature > 0:
        fault = f"`temperature` must be above 0, but is {temperature!r}"
        raise InvalidValueError(what="distillation", faults=[fault])
    _require_shape("the teacher's scores", student, teacher)
    targets = F.softmax(teacher.detach() / temperature, dim=-1)
    found = F.log_softmax(student / temperature, dim=-1)
    losses = -(targets * found).sum(-1) * temperature**2
    if where is None:
        return losses.mean()
    _require_shape("the places to compare", losses, where)
    return torch.where(where, losses, 0.0).sum() / where.sum().clamp(min=1)


def state_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean squared error of each state, summed over states.

    Each is a mean over all elements, padding included, as in DynaBERT. No gradient reaches the
    teacher.

    Args:
        student: states ``[B, T, H]``, at least one.
        teacher: as many, of the same shapes.
    Returns:
        A scalar.
    Raises:
        InvalidValueError: another number of states, none, or another shape.
    """
    if len(student) != len(teacher) or not student:
        fault = (
            f"the teacher's states must be as many as the student's {len(student)}, and at least "
            f"one, but are {len(teacher)}"
        )
        raise InvalidValueError(what="distillation", faults=[fault])
    for ours, theirs in zip(student, teacher, strict=True):
        _require_shape("the teacher's states", ours, theirs)
    pairs = zip(student, teacher, strict=True)
    return torch.stack([F.mse_loss(ours, theirs.detach()) for ours, theirs in pairs]).sum()


def require_same_labels(student: Any, teacher: Any) -> None:
    """Refuse a teacher whose scores mean something else than the student's.

    Args:
        student: a configuration of transformers.
        teacher: another one.
    Raises:
        InvalidValueError: another number of labels, or others by name, or in another order.
    """
    ours, theirs = _labels(student), _labels(teacher)
    if ours != theirs and not (len(ours) == len(theirs) and (_unnamed(ours) or _unnamed(theirs))):
        fault = f"the teacher's labels must be the student's, {ours}, but are {theirs}"
        raise InvalidValueError(what="distillation", faults=[fault])


def _labels(config: Any) -> list[str]:
    names = getattr(config, "id2label", None) or {}
    return [str(names[index]) for index in sorted(names)]


def _unnamed(labels: Sequence[str]) -> bool:
    """What transformers calls labels that nobody has named."""
    return list(labels) == [f"LABEL_{index}" for index in range(len(labels))]


def _require_shape(what: str, student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        fault = (
            f"{what} must be {tuple(student.shape)}, as the student's, but are "
            f"{tuple(teacher.shape)}"
        )
        raise InvalidValueError(what="distillation", faults=[fault])
