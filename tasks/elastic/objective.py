"""`ElasticObjective`: the losses of all sub-networks as the loss of one module.

As a module it is trained by any trainer. One graph is alive at a time: each sub-network's gradient
is taken as soon as its loss is there, and the sum of them is what the trainer's backward delivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

import embshare
from embshare.errors import InvalidValueError
from embshare.models.distillation import require_same_labels
from embshare.models.dynabert import Size, distillation_loss, sized
from embshare.models.dynabert.blocks import blocks, require_fit
from embshare.tasks.elastic.stages import Stage

__all__ = ["ElasticObjective"]


@final
class ElasticObjective(nn.Module):
    """Sums the losses of a stage's sub-networks, which share one model's parameters.

    Args:
        model: the student: BERT or RoBERTa of transformers with a head, plain or shared.
        stage: which sub-networks, and which losses.
        teacher: for a stage that distils; it is trained by nothing, and no part of this module.
        together: keep the graphs of all sub-networks until the backward, at many times the memory.
            FSDP, which has to see the backward of its layers, and scaled losses in float16 need it;
            with it, layers must not be recomputed by activation checkpointing.
    Raises:
        InvalidValueError: the stage's sizes do not fit the model, a teacher is missing or too many,
            or it has other labels, layers or widths than the student; in the first step, FSDP
            without ``together``.
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
            require_fit(model, size)
        _check_teacher(model, stage, teacher)
        self.model, self.stage, self.together = model, stage, together
        self.__dict__["_teacher"] = teacher  # past nn.Module, which would list its parameters
        self.last_losses: tuple[float, ...] = ()
        """Of each sub-network, in the stage's order, at the last call."""

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
        inputs = {name: tensor for name, tensor in given.items() if tensor is not None}
        targets = self._teach(inputs)
        losses: list[Tensor] = []

        def run() -> Iterator[Tensor]:
            for size in self.stage.sizes:
                with sized(self.model, width=size.width, depth=size.depth, rounding=size.rounding):
                    loss = self._loss(size, inputs, targets)
                    losses.append(loss.detach())
                    yield loss

        with embshare.cached(self.model):
            total = self._sum(run)
        self.last_losses = tuple(torch.stack(losses).tolist())
        return {"loss": total}

    def _sum(self, run: Callable[[], Iterator[Tensor]]) -> Tensor:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if self.together or not torch.is_grad_enabled() or not parameters:
            return torch.stack(list(run())).sum()
        _refuse_fsdp(self)
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
        found = self.model(**_without_labels(inputs), output_hidden_states=True)
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
                zip(_scores(found), _scores(teacher), strict=True)
            )
        ]
        return torch.stack(losses).sum()

    def _teacher_width(self, size: Size) -> float:
        return size.width if self.stage.teacher == "same" else 1.0

    @torch.no_grad()
    def _teach(self, inputs: Mapping[str, Tensor]) -> dict[float, Any]:
        """What the teacher says, at full depth, at each width that it is asked at."""
        teacher: nn.Module | None = self.__dict__["_teacher"]
        if teacher is None:
            return {}
        teacher.to(inputs["input_ids"].device)
        widths = {self._teacher_width(size): size.rounding for size in self.stage.sizes}
        found: dict[float, Any] = {}
        with _evaluating(teacher), embshare.cached(teacher):
            for width, rounding in widths.items():
                with sized(teacher, width=width, rounding=rounding):
                    found[width] = teacher(**_without_labels(inputs), output_hidden_states=True)
        return found


class _SumOfLosses(torch.autograd.Function):
    """The sum of losses, whose gradients are taken one by one while it is computed."""

    @staticmethod
    def forward(ctx: Any, run: Callable[[], Iterator[Tensor]], *parameters: Tensor) -> Tensor:
        sums: list[Tensor | None] = [None] * len(parameters)
        losses: list[Tensor] = []
        with torch.enable_grad():
            for loss in run():
                for index, gradient in enumerate(_gradients(loss, parameters)):
                    if gradient is not None:
                        before = sums[index]
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


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Those of one loss; None where it does not depend on a parameter."""
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def _refuse_fsdp(objective: nn.Module) -> None:
    """Its hooks reduce gradients in a backward that runs through the layers, and only there."""
    kinds = {kind.__name__ for module in objective.modules() for kind in type(module).__mro__}
    if any("FSDP" in kind for kind in kinds):
        fault = "under FSDP it needs `together=True`: the backward has to run through its layers"
        raise InvalidValueError(what="the objective", faults=[fault])


def _without_labels(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    labels = ("labels", "start_positions", "end_positions")
    return {name: tensor for name, tensor in inputs.items() if name not in labels}


def _scores(found: Any) -> tuple[Tensor, ...]:
    """A model's scores; one that marks an answer has two."""
    if "logits" in found:
        return (found.logits,)
    return found.start_logits, found.end_logits


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _check_teacher(model: nn.Module, stage: Stage, teacher: nn.Module | None) -> None:
    if stage.distil == (teacher is None):
        need = "needs a teacher: give it one" if stage.distil else "takes none: leave it out"
        raise InvalidValueError(what="the teacher", faults=[f"the stage {stage.name!r} {need}"])
    if teacher is None:
        return
    if teacher is model:
        fault = "it must be a model of its own, for example a deep copy of the student"
        raise InvalidValueError(what="the teacher", faults=[fault])
    require_same_labels(getattr(model, "config", None), getattr(teacher, "config", None))
    ours, theirs = blocks(model), blocks(teacher)
    wide, wide_there = (b[0].output.out_features for b in (ours, theirs))
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
