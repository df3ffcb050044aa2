"""The processes that train one model, started by ``torchrun`` or ``accelerate launch``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from torch import nn

__all__ = ["gathered", "on_cpu", "one_after_the_other", "process_state"]


def on_cpu() -> bool:
    """Whether there is no accelerator, so that processes talk to each other over the CPU."""
    return not (torch.cuda.is_available() or torch.backends.mps.is_available() or _other())


def _other() -> bool:
    return any(
        kind.is_available() for name in ("xpu", "mtia") if (kind := getattr(torch, name, None))
    )


def process_state() -> PartialState:
    """Which process this is, of how many.

    Accelerate alone would take each process of a machine without an accelerator for the only one.
    """
    return PartialState(cpu=on_cpu())


def gathered(model: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
    """A model that each process has the whole of.

    Args:
        model: after a training; FSDP2 leaves a process its part of each parameter.
        build: makes the model as it was before the training.
    Returns:
        The model itself, or what ``build`` makes with its parameters, on its device.
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
    """What the first of several processes writes down in here, the others then find.

    Where machines have a disk each, the first process of each writes.

    Args:
        shared: whether there is a place that they share; else each goes ahead by itself.
    """
    if not shared:
        yield
        return
    process = process_state()
    with process.main_process_first(), process.local_main_process_first():
        yield
