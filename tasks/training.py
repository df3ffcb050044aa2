"""Training for every task, by the transformers ``Trainer``.

This module imports transformers, so import it where a model is trained, not before;
`TrainSettings` are in `embshare.tasks.settings`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    EvalPrediction,
    PrinterCallback,
    TrainingArguments,
    default_data_collator,
)
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from embshare.errors import InvalidValueError
from embshare.tasks.averaging import check_average
from embshare.tasks.checkpoints import read_checkpoints
from embshare.tasks.optimizing import make_lamb, rated_groups
from embshare.tasks.processes import on_cpu, process_state
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Feed, OnStep, Training
from embshare.tasks.trainer import SharingTrainer, StepClock

__all__ = [
    "Saving",
    "check_training",
    "counted",
    "evaluate",
    "make_arguments",
    "save_steps",
    "train",
]

Rows: TypeAlias = Dataset[dict[str, Tensor]]
CHECKPOINTS: Final = 10  # per run, unless the settings say how often
POINTS: Final = 100  # per curve, unless the settings say how often


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Checkpoints of a run."""

    checkpoints: bool = True
    """Write checkpoints, from which a killed run can be resumed."""
    resume: bool = False
    """Resume from the last checkpoint in the folder, if there is one."""
    stop: Callable[[], bool] = lambda: False
    """Asked after each step whether to write a checkpoint and stop."""


def make_arguments(
    settings: TrainSettings,
    *,
    seed: int,
    folder: Path,
    saving: Saving | None = None,
    even_batches: bool = True,
) -> TrainingArguments:
    """Make the arguments of the ``Trainer``.

    Args:
        settings: settings with `TrainSettings.steps` counted; `train` counts them from epochs.
        seed: seed of dropout and data order.
        folder: folder of the ``Trainer``, for checkpoints.
        saving: ``None`` saves and logs nothing.
        even_batches: give each process the same number of rows, by repeating some; impossible for
            batches that are not a fixed number of rows.
    """
    steps = settings.steps
    schedule, options, warmup = _schedule(settings)
    made = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.eval_batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=schedule,
        lr_scheduler_kwargs=options,
        warmup_steps=warmup,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        adam_epsilon=settings.epsilon,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        seed=seed,
        data_seed=seed,
        save_strategy="steps" if saving is not None and saving.checkpoints else "no",
        save_steps=save_steps(settings),
        save_total_limit=max(2, settings.average),
        logging_strategy="no" if saving is None else "steps",
        logging_nan_inf_filter=False,  # a curve shows that training diverged
        logging_steps=settings.log_every or max(1, steps // POINTS),
        use_cpu=on_cpu(),
        report_to=list(settings.trackers),
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=settings.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        eval_do_concat_batches=False,  # joined once: joining at each batch is quadratic
        accelerator_config={"even_batches": even_batches},
        label_names=["labels"],
    )
    made._n_gpu = min(1, made.n_gpu)  # one GPU per process: never DataParallel
    return made


@contextmanager
def _own_forward(model: nn.Module) -> Iterator[None]:
    """Undo the autocast that accelerate leaves in a model's forward, so that scores after training
    are those of the saved model. Accelerate's own undoing would leave a method there, which
    `embshare.materialize` does not know and so does not remove."""
    before = vars(model).get("forward")
    try:
        yield
    finally:
        for name in ("forward", "_original_forward"):
            vars(model).pop(name, None)
        if before is not None:
            model.forward = before


def check_training(model: nn.Module, settings: TrainSettings, *, checkpoints: bool) -> None:
    """Check settings against a model before training.

    Args:
        model: model to train.
        settings: settings with `TrainSettings.steps` counted.
        checkpoints: whether any are written.
    Raises:
        AveragingError: fewer checkpoints will be written than are to be averaged.
        InvalidValueError: the model has no layers for `layer_decay`, or a tracker is unknown.
        MissingPackageError: the optimizer's package is not installed.
    """
    check_average(settings, every=save_steps(settings), checkpoints=checkpoints)
    groups = rated_groups(
        model,
        settings,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        hidden_lr=settings.hidden_lr,
    )
    if settings.optimizer == "lamb":
        make_lamb(groups, settings)
    for name in settings.trackers:
        try:
            (tracker,) = get_reporting_integration_callbacks([name])
            tracker()
        except (ImportError, RuntimeError, ValueError) as error:
            finding = " ".join(str(error).split())
            fault = f"`trackers`: {name!r} must be a tracker that is installed, but {finding}"
            raise InvalidValueError(what="training", faults=[fault]) from error


def save_steps(settings: TrainSettings) -> int:
    """Steps between two checkpoints; there is one more at the end."""
    return settings.save_every or max(1, settings.steps // CHECKPOINTS)


def _schedule(settings: TrainSettings) -> tuple[str, dict[str, Any], int]:
    """Name and options of a schedule of transformers, and its number of warm-up steps."""
    warmup, floor = settings.steps_of_warmup(settings.steps), settings.floor
    match settings.schedule:
        case "cosine" if floor:
            return "cosine_with_min_lr", {"min_lr_rate": floor}, warmup
        case "linear" if floor:
            options = {"lr_end": floor * settings.learning_rate, "power": 1.0}
            # It divides by the number of steps after the warm-up, of which there must be one.
            return "polynomial", options, min(warmup, settings.steps - 1)
        case "constant":
            return "constant_with_warmup", {}, warmup
        case name:
            return name, {}, warmup


def train(
    model: nn.Module,
    feed: Feed,
    settings: TrainSettings,
    *,
    seed: int,
    folder: Path,
    on_step: OnStep,
    saving: Saving | None = None,
) -> Training:
    """Train a model, whose forward returns a loss, in place.

    Args:
        model: dense or shared model; moved to the device that the ``Trainer`` finds.
        feed: training set; its batches are keyword arguments of the model's forward.
        settings: training settings.
        seed: seed of dropout and data order.
        folder: folder of the ``Trainer``, for checkpoints.
        on_step: called after every step.
        saving: checkpoints to write and to resume from; ``None`` writes none.
    """
    stop = (lambda: False) if saving is None or not saving.checkpoints else saving.stop
    clock, begun = StepClock(on_step, stop), time.perf_counter()
    settings = counted(settings, feed)
    done = read_checkpoints(folder) if saving is not None and saving.resume else []
    earlier = done[-1].seconds if done else 0.0

    def seconds() -> float:
        return earlier + time.perf_counter() - begun

    trainer = SharingTrainer(
        model=model,
        args=make_arguments(
            settings, seed=seed, folder=folder, saving=saving, even_batches=feed.batches is None
        ),
        train_dataset=feed.rows,
        data_collator=feed.collate or default_data_collator,
        callbacks=[clock],
        hidden_lr=settings.hidden_lr,
        feed=feed,
        settings=settings,
        seconds=seconds,
    )
    trainer.remove_callback(PrinterCallback)  # a library is silent
    if done and done[-1].step >= settings.steps:  # killed after its last step
        trainer.restore(done[-1])
        loss = math.nan
    else:
        last = str(done[-1].folder) if done else None
        with _own_forward(model):
            loss = trainer.train(resume_from_checkpoint=last).training_loss
    curve = tuple(point for point in trainer.state.log_history if "loss" in point)
    return Training(
        step_ms=tuple(clock.step_ms),
        loss=_mean(curve, loss),
        seconds=seconds(),
        stopped=trainer.state.global_step < settings.steps and clock.stopped,
        curve=curve,
    )


def _mean(curve: Sequence[Mapping[str, float]], otherwise: float) -> float:
    """Mean loss of a whole run, resumed or not.

    Each point of a curve is the mean over the steps since the one before it; without a curve, the
    ``Trainer`` knows the mean over its own steps.
    """
    if not curve:
        return otherwise
    steps = np.diff([0, *(point["step"] for point in curve)])
    return float(np.average([point["loss"] for point in curve], weights=steps))


def counted(settings: TrainSettings, feed: Feed) -> TrainSettings:
    """Convert epochs to steps."""
    if settings.epochs is None:
        return settings
    processes = process_state().num_processes
    if feed.batches is None:
        batches = math.ceil(len(feed.rows) / settings.batch_size)  # type: ignore[arg-type]
    else:
        batches = len(feed.batches(0))  # type: ignore[arg-type]
    updates = math.ceil(math.ceil(batches / processes) / settings.accumulation)  # per epoch
    steps = math.ceil(settings.epochs * updates)
    return settings.model_copy(update={"epochs": None, "steps": max(1, steps)})


def evaluate(
    model: nn.Module,
    rows: Rows,
    settings: TrainSettings,
    *,
    folder: Path,
    reduce: Callable[[Tensor, Tensor], Tensor],
    summarise: Callable[[Any], Mapping[str, float]],
    collate: Callable[[list[Any]], dict[str, Tensor]] | None = None,
) -> dict[str, float]:
    """Evaluate a model on all rows, without keeping logits.

    Args:
        model: dense or shared model.
        rows: data set, as in `Feed`; labels go to ``reduce``.
        settings: source of the batch size.
        folder: folder of the ``Trainer``.
        reduce: reduces logits and labels of a batch to ``[B, ...]``, which is kept.
        summarise: computes metrics by name from all that was kept, ``[N, ...]``.
        collate: makes a batch, as in `Feed`.
    """

    def metrics(prediction: EvalPrediction) -> dict[str, float]:
        kept = np.concatenate(prediction.predictions)  # one array for each batch
        return {f"eval_{k}": v for k, v in summarise(kept).items()}

    trainer = SharingTrainer(
        model=model,
        args=make_arguments(settings, seed=0, folder=folder),
        eval_dataset=rows,
        data_collator=collate or default_data_collator,
        compute_metrics=metrics,
        preprocess_logits_for_metrics=reduce,
        hidden_lr=settings.hidden_lr,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.is_fsdp_enabled = False  # each process has the whole model, and evaluates its own rows
    with _own_forward(model):
        found = trainer.evaluate(metric_key_prefix="eval")
    return {k.removeprefix("eval_"): float(v) for k, v in found.items() if k.startswith("eval_")}
