"""How the stages are trained, and what is measured: settings, without anything that trains."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from embshare._value import Value

__all__ = ["ElasticConfig", "ElasticSettings"]


class ElasticSettings(Value):
    """AdamW with a linear warm-up and a linear way down to zero, by default as published.

    Raises:
        InvalidValueError: a field is unknown or out of range.
    """

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training side, in each stage."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows of one step, on each device."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches of one update."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    """Of everything, the highest."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the steps in which the learning rate rises; officially 0.06 for RoBERTa."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of matrices; biases and norms have none."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Of the summed gradient of all sub-networks."""
    evaluate_every: Annotated[int, Field(ge=1)] = 50
    """Updates between two evaluations of all sub-networks; officially 10 in the third stage."""
    bf16: bool = False
    """Compute in bfloat16 where autocast allows it."""


class ElasticConfig(ElasticSettings):
    """How the stages are trained, and what is measured in the end.

    Raises:
        InvalidValueError: a field is unknown or out of range.
    """

    tuning: bool = True
    """Train the third stage too, on labels."""
    most_rows: Annotated[int, Field(ge=1)] | None = None
    """No more than so many rows of the training side are learned from, from its beginning."""
    importance_batch: Annotated[int, Field(ge=1)] = 8
    """Rows of a batch on which importance is measured, of the development side as officially."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Of dropout and of the order of rows."""
    measured_rows: Annotated[int, Field(ge=1)] = 32
    """Rows of the batch on which sub-networks are timed."""
    repeats: Annotated[int, Field(ge=1)] = 20
    """Forwards of each of them that are timed."""
