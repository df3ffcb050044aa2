"""Training by several processes, started by ``torchrun`` or ``accelerate launch``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from torch import nn

__all__ = ["gathered", "on_cpu", "one_after_the_other", "process_state"]


def on_cpu() -> bool:
    """Whether there is no accelerator, so that processes communicate over the CPU."""
    return not (torch.cuda.is_available() or torch.backends.mps.is_available() or _other())


def _other() -> bool:
    return any(
        kind.is_available() for name in ("xpu", "mtia") if (kind := getattr(torch, name, None))
    )


def process_state() -> PartialState:
    """Rank of this process, and the number of processes.

    By default, accelerate would take each process of a machine without an accelerator for the only
    one.
    """
    return PartialState(cpu=on_cpu())


def gathered(model: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
    """Gather a sharded model, so that each process has all of it.

    Args:
        model: trained model; FSDP2 leaves each process its shard of each parameter.
        build: builds the model as it was before training.
    Returns:
        The model itself if it is not sharded, else a new one with its parameters, on its device.
    """
    if not any(hasattr(parameter, "full_tensor") for parameter in model.parameters()):
        return model  # and nothing is imported, which takes most of a second
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    whole = build().to(process_state().device)
    whole.load_state_dict(state)
    return whole


@contextmanager
def one_after_the_other(*, shared: bool) -> Iterator[None]:
    """Let the first of several processes write files before the others look for them.

    Where machines have a disk each, the first process of each machine writes.

    Args:
        shared: whether processes share a folder; otherwise none waits.
    """
    if not shared:
        yield
        return
    process = process_state()
    with process.main_process_first(), process.local_main_process_first():
        yield
