"""The processes that train one model, started by ``torchrun`` or ``accelerate launch``."""

from __future__ import annotations

import torch
from accelerate import PartialState  # type: ignore[import-untyped]

__all__ = ["on_cpu", "process_state"]


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
