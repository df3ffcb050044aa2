"""Training a stage on ``Trainer``, with the best state of all sub-networks kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments, default_data_collator

from embshare.caching import cached
from embshare.errors import InvalidValueError
from embshare.models.dynabert import Size, sized
from embshare.tasks.elastic.objective import ElasticObjective
from embshare.tasks.elastic.stages import ElasticSettings, Stage
from embshare.tasks.trainer import SharingTrainer

__all__ = ["Evaluate", "Evaluation", "StageResult", "evaluate_sizes", "train_stage"]

Evaluate: TypeAlias = Callable[[nn.Module], Mapping[str, float]]
"""A model to metrics by name, the one that counts first, more being better."""
Rows: TypeAlias = Dataset[dict[str, Tensor]]


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
        """Whether its total is larger; one that is no number is smaller than any."""
        return self.total > other.total or math.isnan(other.total) > math.isnan(self.total)


@dataclass(frozen=True)
class StageResult:
    """What training a stage gave."""

    loss: float
    """Mean over updates of the sum over sub-networks."""
    steps: int
    history: tuple[Evaluation, ...] = ()
    best: Evaluation | None = None
    """Whose parameters the model has now; the first of equals."""


def evaluate_sizes(
    model: nn.Module, sizes: tuple[Size, ...], evaluate: Evaluate
) -> tuple[dict[str, float], ...]:
    """Metrics of each sub-network; derived weights are kept from the first to the last.

    Raises:
        InvalidValueError: ``evaluate`` returned no metric, or a size does not fit.
    """
    found = []
    with cached(model):
        for size in sizes:
            with sized(model, width=size.width, depth=size.depth, rounding=size.rounding):
                metrics = dict(evaluate(model))
            if not metrics:
                fault = "it must return at least one metric, but returned none"
                raise InvalidValueError(what="`evaluate`", faults=[fault])
            found.append(metrics)
    return tuple(found)


def train_stage(
    model: nn.Module,
    stage: Stage,
    rows: Rows,
    settings: ElasticSettings,
    *,
    folder: Path,
    teacher: nn.Module | None = None,
    evaluate: Evaluate | None = None,
    collate: Callable[[list[Any]], dict[str, Any]] = default_data_collator,
    seed: int = 42,
    together: bool = False,
) -> StageResult:
    """Train all sub-networks of a model in place: one update of their summed gradients per step.

    Args:
        model: the student: BERT or RoBERTa of transformers with a head; plain or shared. For the
            first stage it should have been rewired.
        stage: `WIDTH_STAGE`, `DEPTH_STAGE`, `TUNING_STAGE`, or one of your own.
        rows: one example each; labels are not read where the stage distils.
        settings: how long and how fast.
        folder: for whatever the ``Trainer`` writes.
        teacher: for a stage that distils: officially the fine-tuned model in the first, and a copy
            of the result of the first in the second.
        evaluate: called on every sub-network every ``settings.evaluate_every`` updates and after
            the last; the model ends with the parameters of the largest sum. None trains to the end.
        collate: rows to a batch.
        seed: of dropout and of the order of rows.
        together: as in `ElasticObjective`.
    Raises:
        InvalidValueError: as `ElasticObjective`.
    """
    objective = ElasticObjective(model, stage, teacher, together=together)
    selection = _Selection(model, stage, evaluate, settings.evaluate_every)
    trainer = SharingTrainer(
        model=objective,
        args=_arguments(settings, seed=seed, folder=folder),
        train_dataset=rows,
        data_collator=collate,
        callbacks=[selection],
        hidden_lr=1.0,
    )
    trainer.remove_callback(PrinterCallback)  # a library is silent
    outcome = trainer.train()
    selection.finish(outcome.global_step)
    return StageResult(
        loss=outcome.training_loss,
        steps=outcome.global_step,
        history=tuple(selection.history),
        best=selection.best,
    )


def _arguments(settings: ElasticSettings, *, seed: int, folder: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup,  # below 1 it is a share of all steps
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.bf16,
        seed=seed,
        data_seed=seed,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        label_names=["labels"],
    )


@final
@dataclass
class _Selection(TrainerCallback):
    """Evaluates all sub-networks now and then, and remembers the best parameters."""

    model: nn.Module
    stage: Stage
    evaluate: Evaluate | None
    every: int
    history: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    kept: dict[str, Tensor] = field(default_factory=dict)

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Evaluate after every so many updates."""
        if state.global_step % self.every == 0:
            self.look(state.global_step)

    def look(self, step: int) -> None:
        """Evaluate now."""
        if self.evaluate is None or (self.history and self.history[-1].step == step):
            return
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            metrics = evaluate_sizes(self.model, self.stage.sizes, self.evaluate)
        self.model.train(training)
        found = Evaluation(step, metrics)
        self.history.append(found)
        if self.best is None or found.beats(self.best):
            self.best = found
            state = self.model.state_dict()
            self.kept = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def finish(self, step: int) -> None:
        """Evaluate at the end, and give the model the best parameters back."""
        self.look(step)
        if self.best is not None and self.best.step != step:
            self.model.load_state_dict(self.kept)
        self.kept = {}
