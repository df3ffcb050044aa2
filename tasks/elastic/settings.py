"""How the stages are trained, and what is measured: settings, without anything that trains."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from embshare._value import Value
from embshare.tasks.settings import TrainSettings

__all__ = ["ElasticConfig"]


class ElasticConfig(Value):
    """AdamW with a linear warm-up and linear decay to zero, by default as published.

    Raises:
        InvalidValueError: a field is unknown or out of range.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)  # they are the options' help

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Number of epochs over the training set, in each stage."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Batch size per device (sequences)."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Gradient accumulation steps."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    """Peak learning rate of all parameters."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Warm-up ratio: fraction of the steps in which the learning rate rises; officially 0.06 for
    RoBERTa."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of matrices; biases and norms have none."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Maximum norm of the summed gradient of all sub-networks."""
    evaluate_every: Annotated[int, Field(ge=1)] = 50
    """Steps between two evaluations of all sub-networks; officially 10 in the third stage."""
    bf16: bool = False
    """Compute in bfloat16 where autocast allows it."""
    tuning: bool = True
    """Train the third stage too, on labels."""
    most_rows: Annotated[int, Field(ge=1)] | None = None
    """Maximum number of training examples, taken from the beginning of the training set."""
    importance_batch: Annotated[int, Field(ge=1)] = 8
    """Batch size for measuring importance, on the validation set as officially."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Seed of dropout and data order."""
    measured_rows: Annotated[int, Field(ge=1)] = 32
    """Batch size for timing sub-networks."""
    repeats: Annotated[int, Field(ge=1)] = 20
    """Number of timed forward passes of each sub-network."""

    @property
    def training(self) -> TrainSettings:
        """The settings of each stage's training."""
        return TrainSettings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            accumulation=self.accumulate,
            learning_rate=self.learning_rate,
            hidden_lr=1.0,
            schedule="linear",
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm,
            precision="bf16" if self.bf16 else "fp32",
        )
