"""Stored parameters, read parameters, and bytes of a model that was really saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_model
from torch import nn

import embshare

__all__ = ["Sizes", "measure_sizes"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Three numbers that compression must never mix up."""

    stored: int
    """Parameters in a checkpoint; a shared one once."""
    read: int
    """Parameters that layers compute with; a shared one at each reader."""
    bytes_on_disk: int
    """Of all files of the checkpoint."""


def measure_sizes(model: nn.Module, *, shared: bool, folder: Path) -> Sizes:
    """Count a model's parameters, and save it to a new folder to weigh it.

    A dense model is saved as ``model.safetensors``, a shared one by `embshare.save`, with its plan.
    """
    folder.mkdir(parents=True)
    if shared:
        embshare.save(model, folder)
        summary = embshare.summarize(model)
        stored, read = summary.stored, summary.read
    else:
        save_model(model, str(folder / "model.safetensors"))
        stored = sum(p.numel() for p in model.parameters())
        read = sum(p.numel() for _, p in model.named_parameters(remove_duplicate=False))
    files = (path for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    return Sizes(stored=stored, read=read, bytes_on_disk=size)
