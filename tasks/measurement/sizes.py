"""Stored parameters, read parameters, and bytes of a model that was really saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

import embshare
from embshare.optim import tables_of
from embshare.runtime.bank import bank_of

__all__ = ["Sizes", "sizes_of"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers that compression must never mix up."""

    stored: int
    """Parameters in a checkpoint; a shared one once."""
    read: int
    """Parameters that layers compute with; a shared one at each reader."""
    hidden: int
    """Of those in a checkpoint, what is no embedding table: layers, or what they come from."""
    bytes_on_disk: int
    """Of all files of the checkpoint."""


def sizes_of(model: nn.Module, folder: Path) -> Sizes:
    """Count a model's parameters, and weigh the files that it was saved to."""
    if bank_of(model) is not None:
        summary = embshare.summarize(model)
        stored, read = summary.stored, summary.read
    else:
        stored = sum(p.numel() for p in model.parameters())
        read = sum(p.numel() for _, p in model.named_parameters(remove_duplicate=False))
    tables = set(tables_of(model))
    hidden = sum(p.numel() for p in model.parameters() if p not in tables)
    files = (path for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    return Sizes(stored=stored, read=read, hidden=hidden, bytes_on_disk=size)
