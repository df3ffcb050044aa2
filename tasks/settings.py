"""How long and how fast a model is trained: the part of a config that all tasks have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from embshare._value import Value

__all__ = ["TrainSettings"]


class TrainSettings(Value):
    """AdamW with a linear warm-up and a cosine down to zero.

    Raises:
        InvalidValueError: a field is unknown or out of range.
    """

    steps: Annotated[int, Field(ge=1)] = 300
    """Updates of the parameters."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Rows of one step, on each device."""
    eval_batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows that are evaluated at once."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-2
    """Of the table and of vectors, the highest, at the end of the warm-up. The default suits some
    hundred steps; for many thousands take a third or a tenth of it."""
    hidden_lr: Annotated[float, Field(gt=0)] = 0.3
    """Of the matrices of layers, or of the projection that they come from, as a multiple of
    ``learning_rate``; see `embshare.parameter_groups`."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Part of the steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of matrices; biases, norms and gains have none."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this norm where theirs is larger."""
