"""The three stages, and the losses of all sub-networks of a stage as the loss of one module.

As a module it is trained by any trainer. One graph is alive at a time: each sub-network's gradient
is taken as soon as its loss is there, and the sum of them is what the trainer's backward delivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

import embshare
from embshare._value import Value
from embshare.errors import InvalidValueError
from embshare.models.distillation import require_same_labels
from embshare.models.dynabert import (
    DEPTHS,
    WIDTHS,
    Size,
    distillation_loss,
    sized,
    sub_networks,
)
from embshare.models.dynabert.blocks import blocks
from embshare.models.dynabert.sizes import Rounding, evaluating, fitting_blocks

__all__ = ["DEPTH_STAGE", "TUNING_STAGE", "WIDTH_STAGE", "ElasticObjective", "Stage"]

Fraction = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
ANSWERS: Final = ("labels", "start_positions", "end_positions")


class Stage(Value):
    """The sub-networks that learn in every step, and what they learn from.

    Raises:
        InvalidValueError: a field is unknown or out of range, or nothing would be learned.
    """

    name: str
    widths: Annotated[tuple[Fraction, ...], Field(min_length=1)] = WIDTHS
    depths: Annotated[tuple[Fraction, ...], Field(min_length=1)] = DEPTHS
    rounding: Rounding = "exact"
    """See `embshare.models.dynabert.Size`."""
    distil: bool = True
    """Learn from a teacher, and not from labels."""
    logits_weight: Weight = 1.0
    """Weight of the cross-entropy against the teacher's logits."""
    states_weight: Weight = 1.0
    """Weight of the squared errors of hidden states."""
    teacher: Literal["full", "same"] = "full"
    """The teacher's width: ``full`` for every student, as the official code has it, or the ``same``
    as the student's, as the paper says. Its authors found no difference."""

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sub-networks, in the order in which their losses are computed."""
        return sub_networks(self.widths, self.depths, self.rounding)

    @model_validator(mode="after")
    def _learns(self) -> Stage:
        if self.distil and not self.logits_weight and not self.states_weight:
            raise ValueError("`logits_weight` or `states_weight` must be above 0 to distil")
        return self


WIDTH_STAGE: Final = Stage(name="width", depths=(1.0,), states_weight=0.1)
"""The first stage: four widths at full depth learn from the model that was fine-tuned."""
DEPTH_STAGE: Final = Stage(name="depth")
"""The second stage: twelve sub-networks learn from the result of the first."""
TUNING_STAGE: Final = Stage(name="tuning", distil=False)
"""The third stage, which may be left out: twelve sub-networks learn from labels."""


@final
class ElasticObjective(nn.Module):
    """Sums the losses of a stage's sub-networks, which share one model's parameters.

    Args:
        model: the student: BERT or RoBERTa of transformers with a head, plain or shared.
        stage: which sub-networks, and which losses.
        teacher: for a stage that distils; it is trained by nothing, and no part of this module.
        together: keep the graphs of all sub-networks until the backward, at many times the memory.
            FSDP, which has to see the backward of its layers, and scaled losses in float16 have it
            always; with it, layers must not be recomputed by activation checkpointing.
    Raises:
        InvalidValueError: the stage's sizes do not fit the model, a teacher is missing or too many,
            or it has other labels, layers or widths than the student.
    """

    accepts_loss_kwargs = False  # read by ``Trainer``: losses are means over a batch

    def __init__(
        self,
        model: nn.Module,
        stage: Stage,
        teacher: nn.Module | None = None,
        *,
        together: bool = False,
    ) -> None:
        super().__init__()
        for size in stage.sizes:
            fitting_blocks(model, size)
        _check_teacher(model, stage, teacher)
        self.model, self.stage, self.together = model, stage, together
        self.__dict__["_teacher"] = teacher  # past nn.Module, which would list its parameters
        self.last_losses: tuple[float, ...] = ()
        """Losses of the sub-networks, in the stage's order, at the last call."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The summed loss, under the name ``loss``; inputs are those of the model, ``[B, T]`` each.

        Raises:
            InvalidValueError: the stage learns from labels, and the model returns no loss.
        """
        given = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "labels": labels,
            "start_positions": start_positions,
            "end_positions": end_positions,
        }
        inputs = {
            name: tensor
            for name, tensor in given.items()
            if tensor is not None and not (self.stage.distil and name in ANSWERS)
        }
        targets = self._teach(inputs)
        losses: list[Tensor] = []

        def run() -> Iterator[Tensor]:
            for size in self.stage.sizes:
                with sized(self.model, **dict(size)):
                    loss = self._loss(size, inputs, targets)
                    losses.append(loss.detach())
                    yield loss

        with embshare.cached(self.model):
            total = self._sum(run, input_ids.device.type)
        self.last_losses = tuple(torch.stack(losses).tolist())
        return {"loss": total}

    def _sum(self, run: Callable[[], Iterator[Tensor]], device: str) -> Tensor:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        together = self.together or _needs_graphs(self, device)
        if together or not torch.is_grad_enabled() or not parameters:
            return torch.stack(list(run())).sum()
        total: Tensor = _SumOfLosses.apply(run, *parameters)
        return total

    def _loss(
        self, size: Size, inputs: Mapping[str, Tensor], targets: Mapping[float, Any]
    ) -> Tensor:
        if not self.stage.distil:
            loss = self.model(**inputs).loss
            if loss is None:
                fault = "it must have `labels`: this stage learns from them"
                raise InvalidValueError(what="a batch", faults=[fault])
            return loss  # type: ignore[no-any-return]
        found = self.model(**inputs, output_hidden_states=True)
        teacher = targets[self._teacher_width(size)]
        losses = [
            distillation_loss(
                ours,
                found.hidden_states,
                theirs,
                teacher.hidden_states,
                size=size,
                logits_weight=self.stage.logits_weight,
                states_weight=self.stage.states_weight if index == 0 else 0.0,
            )
            for index, (ours, theirs) in enumerate(
                zip(_logits(found), _logits(teacher), strict=True)
            )
        ]
        return torch.stack(losses).sum()

    def _teacher_width(self, size: Size) -> float:
        return size.width if self.stage.teacher == "same" else 1.0

    @torch.no_grad()
    def _teach(self, inputs: Mapping[str, Tensor]) -> dict[float, Any]:
        """Outputs of the teacher, at full depth, at each width that it is asked at."""
        teacher: nn.Module | None = self.__dict__["_teacher"]
        if teacher is None:
            return {}
        teacher.to(inputs["input_ids"].device)
        found: dict[float, Any] = {}
        with evaluating(teacher), embshare.cached(teacher):
            for width in dict.fromkeys(map(self._teacher_width, self.stage.sizes)):
                with sized(teacher, width=width, rounding=self.stage.rounding):
                    found[width] = teacher(**inputs, output_hidden_states=True)
        return found


class _SumOfLosses(torch.autograd.Function):
    """The sum of losses, whose gradients are taken one by one while it is computed."""

    @staticmethod
    def forward(ctx: Any, run: Callable[[], Iterator[Tensor]], *parameters: Tensor) -> Tensor:
        sums: list[Tensor | None] = [None] * len(parameters)
        losses: list[Tensor] = []
        with torch.enable_grad():
            for loss in run():
                # None where a loss does not depend on a parameter.
                found = torch.autograd.grad(loss, parameters, allow_unused=True)
                for index, (before, gradient) in enumerate(zip(sums, found, strict=True)):
                    if gradient is not None:
                        sums[index] = gradient if before is None else before.add_(gradient)
                losses.append(loss.detach())
        ctx.sums = sums
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        sums, ctx.sums = ctx.sums, None
        if sums is None:
            raise RuntimeError("the losses of sub-networks can go backward once")
        return None, *(None if part is None else part * gradient for part in sums)


def _needs_graphs(objective: nn.Module, device: str) -> bool:
    """Whether gradients have to come from one backward through the layers.

    FSDP's hooks reduce them there, and only there; losses in float16 are scaled before it.
    """
    half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    kinds = {kind.__name__ for module in objective.modules() for kind in type(module).__mro__}
    return half or any("FSDP" in kind for kind in kinds)


def _logits(found: Any) -> tuple[Tensor, ...]:
    """A model's logits; one that marks an answer has two."""
    return (found.logits,) if "logits" in found else (found.start_logits, found.end_logits)


def _check_teacher(model: nn.Module, stage: Stage, teacher: nn.Module | None) -> None:
    if stage.distil == (teacher is None):
        need = "needs a teacher: give it one" if stage.distil else "takes none: leave it out"
        raise InvalidValueError(what="the teacher", faults=[f"the stage {stage.name!r} {need}"])
    if teacher is None:
        return
    if teacher is model:
        fault = "it must be another model, for example a deep copy of the student"
        raise InvalidValueError(what="the teacher", faults=[fault])
    require_same_labels(getattr(model, "config", None), getattr(teacher, "config", None))
    ours, theirs = blocks(model), blocks(teacher)
    wide, wide_there = (found[0].attention.outer.out_features for found in (ours, theirs))
    faults = [
        f"it must have {needed} {what}, as the student, but has {has}"
        for what, needed, has in (
            ("layers", len(ours), len(theirs)),
            ("columns", wide, wide_there),
        )
        if needed != has and stage.states_weight
    ]
    if faults:
        raise InvalidValueError(what="the teacher", faults=faults)
