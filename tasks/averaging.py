"""Average a run's last checkpoints, which is often better than the last one."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from accelerate.utils import (  # type: ignore[import-untyped]
    FullyShardedDataParallelPlugin,
    parse_flag_from_env,
)
from safetensors.torch import load_file
from torch import Tensor, nn

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.checkpoints import read_checkpoints
from embshare.tasks.settings import TrainSettings

__all__ = ["AveragingError", "LostWeightsError", "check_average", "load_average", "mean_of"]


class AveragingError(EmbshareError, ValueError):
    """A run has fewer checkpoints than are to be averaged."""

    def __init__(self, *, where: str, needs: int, has: int) -> None:
        super().__init__(
            f"{where} must have {needs} checkpoints to average, but has {has}. Lower "
            "`average`, or lower `save_every` so that a run has more of them."
        )
        self.needs, self.has = needs, has


class LostWeightsError(EmbshareError, ValueError):
    """A checkpoint lacks parameters of its model."""

    def __init__(self, *, folder: Path, names: list[str]) -> None:
        super().__init__(
            f"`{folder}` must have every parameter of the model in files of safetensors, but "
            f"lacks {len(names)}, the first of them `{names[0]}`. Train without `average`."
        )
        self.folder, self.names = folder, names


def check_average(settings: TrainSettings, *, every: int, checkpoints: bool) -> None:
    """Check before training that enough checkpoints will be written to average.

    Args:
        settings: settings with `TrainSettings.steps` counted.
        every: steps between two checkpoints; there is one more at the end.
        checkpoints: whether any are written.
    Raises:
        AveragingError: fewer will be written.
        InvalidValueError: each process will write its shard alone.
    """
    has = math.ceil(settings.steps / every) if checkpoints else 0
    if settings.average > max(1, has):
        where = f"a run of {settings.steps} steps"
        raise AveragingError(where=where, needs=settings.average, has=has)
    if settings.average > 1 and _sharded():
        fault = (
            "`average`: must be 1 where FSDP writes sharded checkpoints, but is "
            f"{settings.average}. Write whole ones by `--fsdp_state_dict_type FULL_STATE_DICT`"
        )
        raise InvalidValueError(what="training", faults=[fault])


def _sharded() -> bool:
    """Whether `accelerate launch` asks for sharded checkpoints, the default of its FSDP2."""
    if not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return False
    return bool(FullyShardedDataParallelPlugin().state_dict_type.name != "FULL_STATE_DICT")


def load_average(model: nn.Module, folder: Path, count: int) -> None:
    """Load the average of the last checkpoints that a model's ``Trainer`` wrote.

    Stored parameters are averaged, so a shared model's weights are those of its mean table.

    Args:
        model: trained model; stays on its device.
        folder: folder with ``checkpoint-STEP`` folders.
        count: number of checkpoints.
    Raises:
        AveragingError: there are fewer.
        LostWeightsError: one of them lacks a parameter.
    Source:
        Vaswani et al. 2017, section 6.1.
    """
    found = [checkpoint.folder for checkpoint in read_checkpoints(folder)]
    if len(found) < count:
        raise AveragingError(where=f"`{folder}`", needs=count, has=len(found))
    state = model.state_dict()
    wanted = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    mean = mean_of([_read(path) for path in found[-count:]], set(wanted))
    reached = {wanted[name].data_ptr() for name in mean}  # a tied parameter is stored once
    lost = [name for name, x in wanted.items() if x.numel() and x.data_ptr() not in reached]
    if lost:
        raise LostWeightsError(folder=found[-1], names=lost)
    with torch.no_grad():
        for name, tensor in mean.items():
            wanted[name].copy_(tensor)


def _read(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint, which may be in several files."""
    return {
        name: tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def mean_of(states: list[dict[str, Tensor]], names: set[str]) -> dict[str, Tensor]:
    """Average the tensors that all states have, in double precision."""
    shared = names.intersection(*states)
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(like.dtype)
        for name, like in states[0].items()
        if name in shared
    }
