"""Training for every task: the transformers ``Trainer``, with sharing seen to.

This module imports transformers, so import it where a model is trained, not before;
`TrainSettings` stands apart in `embshare.tasks.settings`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import torch
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    default_data_collator,
)
from transformers.trainer_utils import EvalLoopOutput, get_last_checkpoint
from transformers.utils import SAFE_WEIGHTS_NAME

import embshare
from embshare.tasks.optimizing import fall_by_layer, make_lamb, schedule_with_floor
from embshare.tasks.processes import on_cpu
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Feed, OnStep, Training

__all__ = ["Saving", "SharingTrainer", "StepClock", "evaluate", "make_arguments", "train"]

Rows: TypeAlias = Dataset[dict[str, Tensor]]
CHECKPOINTS: Final = 10  # of a run, unless the settings say how many
POINTS: Final = 100  # of a curve, likewise


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What a run keeps on the way besides its curve."""

    checkpoints: bool = True
    """Write some, from which a killed run goes on."""
    resume: bool = False
    """Go on from the last checkpoint in the folder, if one is there."""


@final
class SharingTrainer(Trainer):
    """A ``Trainer`` that derives weights once per evaluation, and groups parameters.

    Args:
        hidden_lr: as in `embshare.parameter_groups`.
        feed: where batches are not a fixed number of rows, what makes them.
        settings: for what ``TrainingArguments`` have no word for; ``None`` is their defaults.
        given: to ``Trainer``.
    """

    def __init__(
        self,
        *,
        hidden_lr: float,
        feed: Feed | None = None,
        settings: TrainSettings | None = None,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self._hidden_lr = hidden_lr
        self._settings = TrainSettings() if settings is None else settings
        self._batches = None if feed is None else feed.batches
        self._objective = None if feed is None else feed.objective
        self._rate = None if feed is None else feed.rate
        if self._objective is not None:
            # An objective is a mean over its batch, so the trainer makes the mean over batches.
            self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """As in transformers, but for the objective of the feed, if it has one."""
        if self._objective is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = self._objective(model, inputs, self.state.max_steps - self.state.global_step)
        return (loss, {"loss": loss}) if return_outputs else loss

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Over `embshare.parameter_groups`, unless an optimizer was given."""
        if self.optimizer is None:
            owner = self.model if model is None else model
            assert owner is not None, "a Trainer without a model trains nothing"
            groups = embshare.parameter_groups(
                owner,
                lr=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                hidden_lr=self._hidden_lr,
            )
            for group in groups:
                if group["name"] == "table":
                    group["weight_decay"] *= self._settings.table_decay
            groups = fall_by_layer(owner, groups, self._settings.layer_decay)
            if self._settings.optimizer == "lamb":
                self.optimizer = make_lamb(groups, self._settings)
            else:
                kind, settings = self.get_optimizer_cls_and_kwargs(self.args)
                self.optimizer = kind(groups, **settings)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """As in transformers, but for a floor in the settings, and times the rate of the feed."""
        if self._settings.floor and self.lr_scheduler is None:
            owner = self.optimizer if optimizer is None else optimizer
            assert owner is not None, "the Trainer makes its optimizer first"
            made = schedule_with_floor(owner, self._settings, steps=num_training_steps)
            self.lr_scheduler, self._created_lr_scheduler = made, True
        scheduler: Any = super().create_scheduler(num_training_steps, optimizer)
        if (rate := self._rate) is not None:
            assert isinstance(scheduler, LambdaLR), "each schedule of the settings is one"
            lambdas = scheduler.lr_lambdas

            def scaled(factor: Callable[[int], float]) -> Callable[[int], float]:
                return lambda step: factor(step) * rate(num_training_steps - step)

            scheduler.lr_lambdas = [scaled(factor) for factor in lambdas]
        return scheduler

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As in transformers, but for the batches of the feed, if it makes any."""
        if self._batches is None:
            return super().get_train_dataloader()
        assert self.train_dataset is not None, "a Trainer without rows trains on nothing"
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,
            batch_sampler=self._batches(seed),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

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

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """A tied parameter once: what transformers does for its own models and for no other."""
        if not isinstance(self.model, PreTrainedModel):
            assert self.model is not None
            state_dict = dict(_each_once(state_dict or self.model.state_dict()))
        super()._save(output_dir, state_dict)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        model = self.model if model is None else model
        file = Path(resume_from_checkpoint, SAFE_WEIGHTS_NAME)
        if isinstance(model, PreTrainedModel) or self.is_fsdp_enabled or not file.is_file():
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            assert model is not None
            load_model(model, str(file))


def _each_once(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in state.items():
        if (key := (tensor.data_ptr(), tensor.shape)) not in seen or not tensor.numel():
            seen.add(key)
            yield name, tensor


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


def make_arguments(
    settings: TrainSettings,
    *,
    seed: int,
    folder: Path,
    saving: Saving | None = None,
    even_batches: bool = True,
) -> TrainingArguments:
    """The ``Trainer``'s arguments.

    Args:
        settings: with `TrainSettings.steps` counted; `train` does that where epochs are asked for.
        seed: of dropout and of the order of rows.
        folder: for checkpoints and whatever else the ``Trainer`` writes.
        saving: ``None`` saves nothing and logs nothing: for runs whose parts nobody asks for.
        even_batches: of several processes each gets as many rows, at the cost of some rows twice;
            batches that are not a fixed number of rows cannot have that.
    """
    steps = settings.steps
    every = settings.save_every or max(1, steps // CHECKPOINTS)
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.eval_batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=_schedule(settings),
        warmup_steps=settings.steps_of_warmup(steps),
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
        save_steps=every,
        save_total_limit=max(2, settings.average),
        logging_strategy="no" if saving is None else "steps",
        logging_steps=settings.log_every or max(1, steps // POINTS),
        use_cpu=on_cpu(),
        report_to=list(settings.trackers),
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=settings.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        accelerator_config={"even_batches": even_batches},
        label_names=["labels"],
    )


def _schedule(settings: TrainSettings) -> str:
    return "constant_with_warmup" if settings.schedule == "constant" else settings.schedule


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
        model: Dense or shared; moved to the device that the ``Trainer`` finds.
        feed: Rows, which become keyword arguments of the model's forward.
        settings: Length and speed.
        seed: Of dropout and of the order of rows.
        folder: For whatever the ``Trainer`` writes.
        on_step: Called after every step.
        saving: Write checkpoints into the folder, from which a killed run goes on.
    """
    clock = StepClock(on_step)
    settings = counted(settings, feed)
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
    )
    trainer.remove_callback(PrinterCallback)  # a library is silent
    last = get_last_checkpoint(str(folder)) if saving is not None and saving.resume else None
    outcome = trainer.train(resume_from_checkpoint=last)
    return Training(
        step_ms=tuple(clock.step_ms),
        loss=outcome.training_loss,
        curve=tuple(point for point in trainer.state.log_history if "loss" in point),
    )


def counted(settings: TrainSettings, feed: Feed) -> TrainSettings:
    """The settings with their epochs turned into steps."""
    if settings.epochs is None:
        return settings
    processes = TrainingArguments(output_dir="unused", report_to=[]).world_size
    if feed.batches is None:
        batches = math.ceil(len(feed.rows) / settings.batch_size)  # type: ignore[arg-type]
    else:
        batches = len(feed.batches(0))  # type: ignore[arg-type]
    steps = math.ceil(settings.epochs * batches / (settings.accumulation * processes))
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
        model: Dense or shared.
        rows: As in `Feed`; their labels go to ``reduce``.
        settings: For the batch size.
        folder: For whatever the ``Trainer`` writes.
        reduce: Logits and labels of a batch to ``[B, ...]``, which is what is kept.
        summarise: All that was kept, an array ``[N, ...]``, to metrics by name.
        collate: As in `Feed`.
    """

    def metrics(prediction: EvalPrediction) -> dict[str, float]:
        return {f"eval_{k}": v for k, v in summarise(prediction.predictions).items()}

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
    found = trainer.evaluate(metric_key_prefix="eval")
    return {k.removeprefix("eval_"): float(v) for k, v in found.items() if k.startswith("eval_")}
