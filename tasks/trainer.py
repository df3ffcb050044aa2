"""``Trainer`` of transformers for shared models and for the feeds of tasks.

This module imports transformers, so import it where a model is trained, not before.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import EvalLoopOutput
from transformers.utils import SAFE_WEIGHTS_NAME

import embshare
from embshare.errors import EmbshareWarning
from embshare.models.matched.embedding import IGNORED
from embshare.tasks.checkpoints import Checkpoint
from embshare.tasks.optimizing import make_lamb, rated_groups
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Feed, OnStep

__all__ = ["DivergedWarning", "SharingTrainer", "StepClock"]


class DivergedWarning(EmbshareWarning):
    """Training has diverged: the loss is non-finite. Given once per training."""

    def __init__(self, *, loss: float, step: int) -> None:
        super().__init__(
            f"the loss must be finite, but is {loss} at step {step:,}: training has diverged, "
            "and further steps hardly ever recover. Stop it, and lower the learning rate, or "
            "`hidden_lr`, which scales that of hidden matrices."
        )
        self.loss, self.step = loss, step


@final
class SharingTrainer(Trainer):
    """A ``Trainer`` that derives weights once per evaluation, and groups parameters.

    Args:
        hidden_lr: see `embshare.parameter_groups`.
        feed: source of batches, of the objective and of the learning rate factor.
        settings: settings that ``TrainingArguments`` do not have; ``None`` is their defaults.
        seconds: returns the duration of the run so far, for each point of the curve.
        given: arguments of ``Trainer``.
    """

    def __init__(
        self,
        *,
        hidden_lr: float,
        feed: Feed | None = None,
        settings: TrainSettings | None = None,
        seconds: Callable[[], float] | None = None,
        **given: Any,
    ) -> None:
        super().__init__(**given)
        self._hidden_lr = hidden_lr
        self._settings = TrainSettings() if settings is None else settings
        self._batches = None if feed is None else feed.batches
        self._objective = None if feed is None else feed.objective
        self._rate = None if feed is None else feed.rate
        self._shifted = feed is not None and feed.next_token
        self._seconds = seconds
        self._diverged = False
        # `compute_loss` makes the mean over an update itself: transformers looks for `**kwargs` in
        # a model's signature, which is no promise that its loss divides by the count in them.
        self.model_accepts_loss_kwargs = True

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """Return the batches of an update, and the number of their labels in all processes."""
        batches = list(islice(epoch_iterator, num_batches))
        if not batches:
            return batches, None
        counts = [self._labels(batch).to(device) for batch in batches]
        return batches, self.accelerator.gather(torch.stack(counts).sum()).sum()

    def _labels(self, batch: Mapping[str, Any]) -> Tensor:
        """Number of labels in a batch; where it has none by that name, of its rows."""
        labels = batch.get("labels")
        if not isinstance(labels, Tensor):
            return torch.tensor(len(next(iter(batch.values()))))
        return (labels[..., 1:] if self._shifted else labels).ne(IGNORED).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the loss of a batch, weighted by its part of the labels of the update.

        Losses are means over a batch, of the feed's objective or of the model. The weights make an
        update over accumulated batches and several processes equal to that of one large batch.
        """
        if self._objective is None:
            loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        else:
            loss = self._objective(model, inputs, self.state.max_steps - self.state.global_step)
            outputs = {"loss": loss}
        if num_items_in_batch is not None and model.training:
            part = self._labels(inputs) / max(num_items_in_batch, 1)
            loss = loss * (part * self.accelerator.num_processes)  # gradients are their mean
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer over `embshare.parameter_groups`, unless one was given."""
        if self.optimizer is None:
            owner = self.model if model is None else model
            assert owner is not None, "a Trainer without a model trains nothing"
            groups = rated_groups(
                owner,
                self._settings,
                lr=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                hidden_lr=self._hidden_lr,
            )
            if self._settings.optimizer == "lamb":
                self.optimizer = make_lamb(groups, self._settings)
            else:
                kind, settings = self.get_optimizer_cls_and_kwargs(self.args)
                self.optimizer = kind(groups, **settings)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """Make the schedule of transformers, times the learning rate factor of the feed."""
        scheduler: Any = super().create_scheduler(num_training_steps, optimizer)
        if (rate := self._rate) is not None:
            assert isinstance(scheduler, LambdaLR), "each schedule of the settings is one"
            lambdas = scheduler.lr_lambdas

            def scaled(factor: Callable[[int], float]) -> Callable[[int], float]:
                return lambda step: factor(step) * rate(num_training_steps - step)

            scheduler.lr_lambdas = [scaled(factor) for factor in lambdas]
        return scheduler

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Make the data loader, with the batches of the feed if it has any."""
        if self._batches is None:
            return super().get_train_dataloader()
        assert self.train_dataset is not None, "a Trainer without rows trains on nothing"
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        batches = self._batches(seed)
        self.add_callback(_EpochStart(batches))
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a point, with the duration of the run so far.

        Warns:
            DivergedWarning: the loss is non-finite for the first time.
        """
        if not (self._diverged or math.isfinite(loss := logs.get("loss", 0.0))):
            self._diverged = True
            warnings.warn(DivergedWarning(loss=loss, step=self.state.global_step), stacklevel=2)
        if self._seconds is not None:
            logs["seconds"] = self._seconds()
        super().log(logs, start_time)

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Run the loop of transformers with derived weights kept for as long as it lasts."""
        assert self.model is not None, "a Trainer without a model evaluates nothing"
        # The model is on its device. Several processes on CPUs would get a copy, named `cpu:0`.
        self.accelerator.device_placement = False
        with embshare.cached(self.model):  # nothing to keep in a dense one
            return super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save a tied parameter once, as transformers does for its own models alone."""
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

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load both, with the rate of this schedule at the next step: that in the checkpoint is of
        the schedule that the run had when it was shorter, mostly 0."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not isinstance(scheduler := self.lr_scheduler, LambdaLR):
            return
        assert self.optimizer is not None
        rates = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        found = [base * factor(scheduler.last_epoch) for base, factor in rates]
        for group, rate in zip(self.optimizer.param_groups, found, strict=True):
            group["lr"] = rate
        scheduler._last_lr = found

    def restore(self, checkpoint: Checkpoint) -> None:
        """Load the weights and the curve of a checkpoint, where no step is left."""
        self._load_from_checkpoint(str(checkpoint.folder))
        self.state.log_history = list(checkpoint.history)


def _each_once(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in state.items():
        if (key := (tensor.data_ptr(), tensor.shape)) not in seen or not tensor.numel():
            seen.add(key)
            yield name, tensor


@final
class StepClock(TrainerCallback):
    """Times each step from its batch to the updated parameters, synchronised with the device.

    Args:
        on_step: called after each step.
        stop: asked after each step whether to write a checkpoint and stop.
    """

    def __init__(self, on_step: OnStep, stop: Callable[[], bool] = lambda: False) -> None:
        self.step_ms: list[float] = []
        self.stopped = False
        self._on_step, self._stop, self._begun = on_step, stop, 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._begun = _now()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.step_ms.append((_now() - self._begun) * 1e3)
        self._on_step()
        if self._stop():
            self.stopped = control.should_save = control.should_training_stop = True
        control.should_log |= control.should_save  # a checkpoint lacks losses since the last point


@final
class _EpochStart(TrainerCallback):
    """Sets the epoch of batches, which does not pass through the wrappers that accelerate puts
    around them for several processes and for resumed runs."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._batches.set_epoch(int(state.epoch or 0))


def _now() -> float:
    """Seconds on a monotonic clock, after all work on the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
