"""Count stored and read parameters, and the bytes of a saved model."""

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
    """Sizes of a model, which differ under compression."""

    stored: int
    """Number of parameters in a checkpoint; shared ones once."""
    read: int
    """Number of parameters that layers compute with; shared ones at each reader."""
    hidden: int
    """Number of parameters in a checkpoint outside embedding tables: layers, or what they are
    derived from."""
    bytes_on_disk: int
    """Total size of the checkpoint's files."""


def sizes_of(model: nn.Module, folder: Path) -> Sizes:
    """Count a model's parameters, and the bytes of its files."""
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
