"""The mean of a run's last checkpoints, which is often better than the last one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from embshare.errors import EmbshareError

__all__ = ["AveragingError", "load_average", "mean_of"]

PREFIX: Final = "checkpoint-"


class AveragingError(EmbshareError, ValueError):
    """There are not as many checkpoints as are to be averaged."""

    def __init__(self, *, folder: Path, needs: int, has: int) -> None:
        super().__init__(
            f"`{folder}` must hold {needs} checkpoints to average, but holds {has}. Lower "
            "`average`, or lower `save_every` so that a run has more of them."
        )
        self.folder, self.needs, self.has = folder, needs, has


def load_average(model: nn.Module, folder: Path, count: int) -> None:
    """Set a model to the mean of the last checkpoints that its ``Trainer`` wrote.

    Stored parameters are averaged, so a shared model's weights are those of its mean table.

    Args:
        model: that was trained; stays on its device.
        folder: with ``checkpoint-STEP`` folders.
        count: how many.
    Raises:
        AveragingError: there are fewer.
    Source:
        Vaswani et al. 2017, section 6.1.
    """
    found = sorted(folder.glob(f"{PREFIX}*"), key=lambda path: int(path.name[len(PREFIX) :]))
    if len(found) < count:
        raise AveragingError(folder=folder, needs=count, has=len(found))
    state = model.state_dict()
    wanted = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    mean = mean_of([_read(path) for path in found[-count:]], set(wanted))
    with torch.no_grad():
        for name, tensor in mean.items():
            wanted[name].copy_(tensor)


def _read(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, which may be in several files."""
    return {
        name: tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def mean_of(states: list[dict[str, Tensor]], names: set[str]) -> dict[str, Tensor]:
    """The mean of those tensors that all states have, computed in double precision."""
    shared = names.intersection(*states)
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(like.dtype)
        for name, like in states[0].items()
        if name in shared
    }
