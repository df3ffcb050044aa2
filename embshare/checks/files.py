"""Looks at a folder that `embshare.save` wrote; no model is needed, or built."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from embshare.checkpoint_files import DESCRIPTION, Checkpoint, read_checkpoint, versions
from embshare.checks.findings import Finding, Findings, found, seen
from embshare.checks.storing import grown, planned
from embshare.checks.tables import odd_numbers
from embshare.sharing import BANK

__all__ = ["check_folder"]


def check_folder(folder: Path) -> Findings:
    """Look at a saved model: its files, its plans and its numbers.

    Args:
        folder: as `embshare.save` wrote it.
    Raises:
        CheckpointError: a file is missing, cut off, changed or of a newer format.
    """
    checkpoint, state = read_checkpoint(folder)
    looks = (
        partial(_files, folder, checkpoint),
        partial(_numbers, checkpoint, state),
        partial(_dtypes, checkpoint),
        partial(_plans, folder, checkpoint),
        partial(_size, folder, checkpoint, state),
    )
    return Findings(dict.fromkeys(seen(str(folder), looks)))


def _files(folder: Path, checkpoint: Checkpoint) -> Iterator[Finding]:
    beside = Checkpoint.from_json((folder / DESCRIPTION).read_bytes())
    if beside != checkpoint:
        text = "does not describe the weights beside it, which have their own description"
        yield found("two-saves", str(folder / DESCRIPTION), text)
    theirs, ours = (v.get("embshare", "0") for v in (checkpoint.versions, versions()))
    if _numbered(theirs) > _numbered(ours):
        yield found("newer", str(folder), f"was written by embshare {theirs}, and this is {ours}")


def _numbered(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with."""
    parts = version.partition("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdecimal())


def _numbers(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> Iterator[Finding]:
    rows = {
        f"{path}.{source.name}" if path else source.name: source.rows
        for path, plan in checkpoint.plans.items()
        for source in plan.sources
    }
    shared = {name: state[name][:count] for name, count in rows.items() if name in state}
    shared |= {name: t for name, t in state.items() if _is_projection(name)}
    for kind, name, text in odd_numbers(state, shared):
        yield found(kind, name, text)


def _is_projection(name: str) -> bool:
    parts = name.split(".")
    return parts[-3:-2] == ["sources"] and parts[-1] == "projection"


def _dtypes(checkpoint: Checkpoint) -> Iterator[Finding]:
    if checkpoint.dtypes:
        first, dtype = next(iter(checkpoint.dtypes.items()))
        more = f", as {len(checkpoint.dtypes) - 1} more are" if len(checkpoint.dtypes) > 1 else ""
        yield found("cast", first, f"is cast to {dtype}, which is not its table's dtype{more}")


def _plans(folder: Path, checkpoint: Checkpoint) -> Iterator[Finding]:
    for path, plan in checkpoint.plans.items():
        yield from planned(plan, path or str(folder))


def _size(folder: Path, checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> Iterator[Finding]:
    """Parameters alone: a state has buffers of the model too, which sharing leaves as they are."""
    structure = checkpoint.structure
    again = {name for tie in structure.ties for name in tie[1:]}
    before = sum(math.prod(s) for name, s in structure.tensors.items() if name not in again)
    factors = tuple(f"{table.rpartition('.')[0]}.factor." for table in checkpoint.tables())
    now = sum(
        tensor.numel()
        for name, tensor in state.items()
        if name in structure.tensors or _is_of_bank(name) or name.startswith(factors)
    )
    yield from grown(str(folder), now, before)


def _is_of_bank(name: str) -> bool:
    """Whether this is a parameter of a bank; its scales are buffers."""
    _, bank, inside = f".{name}".rpartition(f".{BANK}.")
    return bool(bank) and not inside.startswith("scales.")
