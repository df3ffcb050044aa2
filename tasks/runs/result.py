"""The result of a run, with all that is needed to repeat it."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from embshare._value import Record
from embshare.tasks.measurement.provenance import Provenance
from embshare.tasks.runs.config import RunConfig

__all__ = ["RunResult"]


class RunResult(Record):
    """The content of ``result.json``."""

    format: Literal[1] = 1
    task: str
    metric: str
    """Name of the metric to compare models by."""
    metrics: dict[str, float]
    """All metrics of the task by name."""
    stored_parameters: int
    """Number of parameters in the checkpoint; shared ones once."""
    read_parameters: int
    """Number of parameters that layers compute with; shared ones at each reader."""
    hidden_parameters: int
    """Number of parameters in the checkpoint outside embedding tables: layers, or what they are
    derived from."""
    bytes: int
    """Total size of the model's files."""
    steps: int
    """Number of optimizer updates."""
    seconds: float
    """Training time; for a resumed run the sum over its parts."""
    ms_per_step: float
    """Median time of a step, from its batch to the updated parameters, since the run was started or
    resumed."""
    training_loss: float
    """Mean over the whole run, as logged in its curve."""
    peak_mib: float
    """Peak memory of the process during training."""
    resident_mib: float
    """Memory of the process before training, with Python and all libraries."""
    device_peak_mib: float | None = None
    """Peak memory of tensors on this process's CUDA device; ``None`` without one."""
    seed: int
    processes: int = 1
    """Number of training processes."""
    config: RunConfig
    data: dict[str, JsonValue]
    """Description of the data by the task."""
    provenance: Provenance
    """Versions, commit and machine."""
