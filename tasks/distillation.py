"""Distillation for any task: mix a model's own loss with that of a teacher's logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

import torch
from torch import Tensor, nn

import embshare
from embshare.errors import InvalidValueError
from embshare.models.distillation import require_same_labels, soft_cross_entropy

__all__ = ["Teacher", "mix_losses"]

LABELS: Final = ("labels", "label", "start_positions", "end_positions")


@final
class Teacher:
    """A teacher, which is not trained.

    It is no module, so that a model that holds one does not list its parameters.

    Args:
        model: dense or shared model whose forward returns ``logits``; set to evaluation mode.
        student: model that learns from it. Where both have a configuration of transformers with
            labels, the labels must agree.
    Raises:
        InvalidValueError: the labels differ, or the teacher is the student itself.
    """

    def __init__(self, model: nn.Module, student: nn.Module) -> None:
        if model is student:
            fault = "it must not be the student itself: use a deep copy"
            raise InvalidValueError(what="the teacher", faults=[fault])
        configs = [getattr(each, "config", None) for each in (student, model)]
        if all(hasattr(config, "id2label") for config in configs):
            require_same_labels(*configs)
        self.model = model.eval()

    @torch.no_grad()
    def scores(self, inputs: Mapping[str, Any], names: tuple[str, ...] = LABELS) -> Tensor:
        """Logits of the teacher, ``[..., C]``.

        Args:
            inputs: keyword arguments of its forward.
            names: inputs that are left out, because they are labels.
        Raises:
            InvalidValueError: it returns no ``logits``.
        """
        given = {name: value for name, value in inputs.items() if name not in names}
        device = next((v.device for v in given.values() if isinstance(v, Tensor)), None)
        if device is not None:
            self.model.to(device)
        with embshare.cached(self.model):
            found = self.model(**given)
        logits = found.get("logits") if isinstance(found, Mapping) else None
        if not isinstance(logits, Tensor):
            fault = f"its forward must return `logits`, but returns {type(found).__name__}"
            raise InvalidValueError(what="the teacher", faults=[fault])
        return logits


def mix_losses(
    loss: Tensor,
    student: Tensor,
    teacher: Tensor,
    *,
    share: float = 0.5,
    temperature: float = 2.0,
    labels: Tensor | None = None,
) -> Tensor:
    """Compute ``(1 - share) * loss + share * soft_cross_entropy``.

    Args:
        loss: loss of the student on labels.
        student: logits of the student, ``[..., C]``.
        teacher: logits of the teacher, of the same shape.
        share: weight of the teacher, from 0 to 1.
        temperature: see `soft_cross_entropy`.
        labels: ``[...]``; positions with -100 are left out. ``None`` compares all positions.
    Raises:
        InvalidValueError: the share is out of range, or shapes differ.
    Source:
        Hinton et al., 2015.
    """
    if not 0 <= share <= 1:
        fault = f"`share` must be from 0 to 1, but is {share!r}"
        raise InvalidValueError(what="distillation", faults=[fault])
    where = None if labels is None else labels != -100
    taught = soft_cross_entropy(student, teacher, temperature=temperature, where=where)
    return (1 - share) * loss + share * taught
