"""Training a stage, which ends with the parameters that are best over all sub-networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from embshare.caching import cached
from embshare.errors import InvalidValueError
from embshare.models.dynabert import Size, sized
from embshare.models.dynabert.sizes import evaluating
from embshare.tasks.elastic.objective import ElasticObjective, Stage
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Feed
from embshare.tasks.training import check_training, counted, train

__all__ = ["Evaluate", "Evaluation", "StageResult", "evaluate_sizes", "train_stage"]

Evaluate: TypeAlias = Callable[[nn.Module], Mapping[str, float]]
"""A model to metrics by name, the one that counts first, more being better."""


@dataclass(frozen=True)
class Evaluation:
    """All sub-networks after one update."""

    step: int
    metrics: tuple[Mapping[str, float], ...]
    """One for each of the stage's sizes, in its order."""

    @property
    def total(self) -> float:
        """The sum of first metrics, by which the best state is chosen."""
        return sum(next(iter(found.values())) for found in self.metrics)

    def beats(self, other: Evaluation) -> bool:
        """Whether its total is larger; NaN is smaller than any number."""
        return self.total > other.total or math.isnan(other.total) > math.isnan(self.total)


@dataclass(frozen=True)
class StageResult:
    """Result of training a stage."""

    loss: float
    """Mean over updates of the sum over sub-networks."""
    steps: int
    history: tuple[Evaluation, ...] = ()
    best: Evaluation | None = None
    """The evaluation whose parameters the model has now; the first of equals."""


def evaluate_sizes(
    model: nn.Module, sizes: tuple[Size, ...], evaluate: Evaluate
) -> tuple[dict[str, float], ...]:
    """Metrics of each sub-network, in evaluation mode; weights are derived once for all of them.

    Raises:
        InvalidValueError: ``evaluate`` returned no metric, or a size does not fit.
    """
    found = []
    with evaluating(model), torch.no_grad(), cached(model):
        for size in sizes:
            with sized(model, **dict(size)):
                metrics = dict(evaluate(model))
            if not metrics:
                fault = "it must return at least one metric, but returned none"
                raise InvalidValueError(what="`evaluate`", faults=[fault])
            found.append(metrics)
    return tuple(found)


def train_stage(
    model: nn.Module,
    stage: Stage,
    rows: Dataset[Any],
    settings: TrainSettings,
    *,
    folder: Path,
    teacher: nn.Module | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 50,
    collate: Callable[[list[Any]], dict[str, Tensor]] | None = None,
    seed: int = 42,
) -> StageResult:
    """Train all sub-networks of a model in place: one update of their summed gradients per step.

    Args:
        model: the student: BERT or RoBERTa of transformers with a head; plain or shared. For the
            first stage it should have been rewired.
        stage: `WIDTH_STAGE`, `DEPTH_STAGE`, `TUNING_STAGE`, or another.
        rows: one example each; labels are not read where the stage distils.
        settings: `ElasticConfig.training`, or others; nothing is logged or saved.
        folder: for whatever the ``Trainer`` writes.
        teacher: for a stage that distils: officially the fine-tuned model in the first, and a copy
            of the result of the first in the second.
        evaluate: called on every sub-network now and then, and after the last step; the model ends
            with the parameters of the largest sum. None trains to the end.
        evaluate_every: steps between two evaluations; officially 10 in the third stage.
        collate: rows to a batch; None stacks their tensors.
        seed: of dropout and of the order of rows.
    Raises:
        InvalidValueError: as `ElasticObjective`, or settings that do not fit the model.
    """
    objective = ElasticObjective(model, stage, teacher)
    feed = Feed(rows=rows, collate=collate)
    check_training(objective, counted(settings, feed), checkpoints=False)
    selection = _Selection(model, stage.sizes, evaluate, evaluate_every)
    outcome = train(
        objective, feed, settings, seed=seed, folder=folder, on_step=selection.after_step
    )
    selection.finish()
    return StageResult(outcome.loss, selection.step, tuple(selection.history), selection.best)


@final
@dataclass
class _Selection:
    """Evaluates all sub-networks now and then, and remembers the best parameters."""

    model: nn.Module
    sizes: tuple[Size, ...]
    evaluate: Evaluate | None
    every: int
    step: int = 0
    history: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    kept: dict[str, Tensor] = field(default_factory=dict)

    def after_step(self) -> None:
        """Count a step, and evaluate where it is time to."""
        self.step += 1
        if self.step % self.every == 0:
            self.look()

    def look(self) -> None:
        """Evaluate now."""
        if self.evaluate is None or (self.history and self.history[-1].step == self.step):
            return
        found = Evaluation(self.step, evaluate_sizes(self.model, self.sizes, self.evaluate))
        self.history.append(found)
        if self.best is None or found.beats(self.best):
            self.best = found
            state = self.model.state_dict()
            self.kept = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def finish(self) -> None:
        """Evaluate at the end, and give the model the best parameters back."""
        self.look()
        if self.best is not None and self.best.step != self.step:
            self.model.load_state_dict(self.kept)
        self.kept = {}
