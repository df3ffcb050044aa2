"""What a run found, and all that it takes to repeat it."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from embshare._value import Record
from embshare.tasks.measurement.provenance import Provenance
from embshare.tasks.running.config import RunConfig

__all__ = ["RunResult"]


class RunResult(Record):
    """The content of ``result.json``."""

    format: Literal[1] = 1
    task: str
    metric: str
    """Which of `metrics` models are compared by."""
    metrics: dict[str, float]
    """All that the task measured, by plain names."""
    stored_parameters: int
    """In the checkpoint; a shared one once."""
    read_parameters: int
    """That layers compute with; a shared one at each reader."""
    hidden_parameters: int
    """Of those in the checkpoint, what is no embedding table: layers, or what they come from."""
    bytes: int
    """Of the model's files."""
    steps: int
    """Updates of the parameters."""
    seconds: float
    """Of training alone; of a run that was taken up again, in all its parts."""
    ms_per_step: float
    """Median, from data at hand to parameters updated, of the last part of a run."""
    training_loss: float
    """Mean over the whole run, as far as its curve knows."""
    peak_mib: float
    """Most memory that the process had during training."""
    resident_mib: float
    """Memory that it had before, with Python and all libraries."""
    device_peak_mib: float | None = None
    """Most memory that tensors had on an accelerator of CUDA, in this process; ``None``: none."""
    seed: int
    processes: int = 1
    """That trained the model together, each on batches of its own."""
    config: RunConfig
    data: dict[str, JsonValue]
    """What the task says of its data."""
    provenance: Provenance
    """Versions, commit and machine."""
