"""Training for every task: the transformers ``Trainer``, with sharing seen to.

This module imports transformers, so import it where a model is trained, not before;
`TrainSettings` stands apart in `embshare.tasks.settings`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    default_data_collator,
)
from transformers.trainer_utils import EvalLoopOutput

import embshare
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import OnStep, Training

__all__ = ["SharingTrainer", "StepClock", "evaluate", "make_arguments", "train"]

Rows: TypeAlias = Dataset[dict[str, Tensor]]


@final
class SharingTrainer(Trainer):
    """A ``Trainer`` that derives weights once per evaluation, and groups parameters.

    Args:
        hidden_lr: as in `embshare.parameter_groups`.
        given: to ``Trainer``.
    """

    def __init__(self, *, hidden_lr: float, **given: Any) -> None:
        super().__init__(**given)
        self._hidden_lr = hidden_lr

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over `embshare.parameter_groups`, unless an optimizer was given."""
        if self.optimizer is None:
            owner = self.model if model is None else model
            assert owner is not None, "a Trainer without a model trains nothing"
            groups = embshare.parameter_groups(
                owner,
                lr=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                hidden_lr=self._hidden_lr,
            )
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind(groups, **settings)
        return self.optimizer

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As in transformers, with derived weights kept for as long as the loop runs."""
        assert self.model is not None, "a Trainer without a model evaluates nothing"
        with embshare.cached(self.model):  # nothing to keep in a dense one
            return super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )


@final
class StepClock(TrainerCallback):
    """Times each step, from data at hand to parameters updated; the device is waited for."""

    def __init__(self, on_step: OnStep) -> None:
        self.step_ms: list[float] = []
        self._on_step, self._begun = on_step, 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._begun = _now()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.step_ms.append((_now() - self._begun) * 1e3)
        self._on_step()


def _now() -> float:
    """Seconds on a steady clock, once all that was started on a device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def make_arguments(settings: TrainSettings, *, seed: int, folder: Path) -> TrainingArguments:
    """The ``Trainer``'s arguments: warm-up, then a cosine to zero; nothing is saved or sent."""
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.eval_batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup * settings.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
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


def train(
    model: nn.Module,
    rows: Rows,
    settings: TrainSettings,
    *,
    seed: int,
    folder: Path,
    on_step: OnStep,
) -> Training:
    """Train a model, whose forward returns a loss, in place.

    Args:
        model: Dense or shared; moved to the device that the ``Trainer`` finds.
        rows: One example each, as keyword arguments of the model's forward.
        settings: Length and speed.
        seed: Of dropout and of the order of rows.
        folder: For whatever the ``Trainer`` writes.
        on_step: Called after every step.
    """
    clock = StepClock(on_step)
    trainer = SharingTrainer(
        model=model,
        args=make_arguments(settings, seed=seed, folder=folder),
        train_dataset=rows,
        data_collator=default_data_collator,
        callbacks=[clock],
        hidden_lr=settings.hidden_lr,
    )
    trainer.remove_callback(PrinterCallback)  # a library is silent
    outcome = trainer.train()
    return Training(step_ms=tuple(clock.step_ms), loss=outcome.training_loss)


def evaluate(
    model: nn.Module,
    rows: Rows,
    settings: TrainSettings,
    *,
    folder: Path,
    reduce: Callable[[Tensor, Tensor], Tensor],
    summarise: Callable[[Any], Mapping[str, float]],
) -> dict[str, float]:
    """Evaluate a model on all rows, without keeping logits.

    Args:
        model: Dense or shared.
        rows: As in `train`; their labels go to ``reduce``.
        settings: For the batch size.
        folder: For whatever the ``Trainer`` writes.
        reduce: Logits and labels of a batch to ``[B, ...]``, which is what is kept.
        summarise: All that was kept, an array ``[N, ...]``, to metrics by name.
    """

    def metrics(prediction: EvalPrediction) -> dict[str, float]:
        return {f"eval_{k}": v for k, v in summarise(prediction.predictions).items()}

    trainer = SharingTrainer(
        model=model,
        args=make_arguments(settings, seed=0, folder=folder),
        eval_dataset=rows,
        data_collator=default_data_collator,
        compute_metrics=metrics,
        preprocess_logits_for_metrics=reduce,
        hidden_lr=settings.hidden_lr,
    )
    trainer.remove_callback(PrinterCallback)
    found = trainer.evaluate(metric_key_prefix="eval")
    return {k.removeprefix("eval_"): float(v) for k, v in found.items() if k.startswith("eval_")}
