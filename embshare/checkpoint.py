"""`save` and `load`: a folder of ``model.safetensors`` and ``embshare.json``, and no pickle.

The JSON stands in the header of the weights file too, and ``embshare.json`` is written second.
A process killed between the two leaves new weights with their own description inside, which
`load` prefers: a pair is never mixed from two saves.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import platform
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar, cast

import safetensors
import safetensors.torch
import torch
from pydantic import Field
from torch import Tensor, nn

from embshare._value import Value
from embshare.errors import CheckpointError, EmbshareError, PlanError
from embshare.fingerprint import Structure, structure_now, structure_of
from embshare.offloading import refuse_offloaded
from embshare.plan import SharePlan
from embshare.sharing import share_from_embedding
from embshare.state import bank_of, require_bank

__all__ = ["Checkpoint", "load", "meta_copy", "read_checkpoint", "save"]

M = TypeVar("M", bound=nn.Module)

WEIGHTS, DESCRIPTION = "model.safetensors", "embshare.json"
LIMIT = 64 * 2**20
"""Bytes of JSON that are read; a plan of a thousand layers has less than one percent of it."""


class Checkpoint(Value):
    """What ``embshare.json`` holds."""

    format: Literal[1]
    plan: SharePlan
    structure: Structure
    """Of the dense model: what another model must have to load this."""
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of plan, structure and every tensor's name, type, shape and bytes."""
    versions: dict[str, str]


def save(model: nn.Module, folder: str | os.PathLike[str]) -> Path:
    """Write a shared model's stored tensors and plan.

    Args:
        model: as `share_from_embedding` returned it.
        folder: made where it is missing; a checkpoint in it is replaced, each file in one step.
    Returns:
        The folder.
    Raises:
        NotSharedError: the model is dense, or a part of a shared model.
        CheckpointError: it cannot be written (a full disk, no permission); what was there stays.
        OffloadedError: hooks of accelerate have moved values away.
    """
    bank = require_bank(model)
    refuse_offloaded(model, "save")
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if tensor.device.type == "meta":
            raise CheckpointError(
                path=folder, finding=f"`{name}` is on meta and has no values", way_out="Load first."
            )
    structure = structure_now(model, bank.structure)
    checkpoint = Checkpoint(
        format=1,
        plan=bank.plan,
        structure=structure,
        digest=_digest(state, bank.plan, structure),
        versions=_versions(),
    )
    text = checkpoint.to_json()
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = safetensors.torch.save(state, metadata={"embshare": checkpoint.model_dump_json()})
        _replace(folder / WEIGHTS, weights)
        _replace(folder / DESCRIPTION, text.encode())
    except OSError as error:
        raise CheckpointError(
            path=folder,
            finding=f"cannot be written ({error.strerror or error})",
            way_out="What was there before is unchanged; make room or choose another folder.",
        ) from error
    return folder


def _replace(path: Path, data: bytes) -> None:
    """Write next to the file, flush to the disk, and rename: the old file or the new one."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load(folder: str | os.PathLike[str], model: M | Callable[[], M]) -> M:
    """Make a dense model shared as a checkpoint says, with the checkpoint's tensors, bit-equal.

    Everything is checked before the model is touched: the description's values, the structure of
    the model, the names, shapes and types of the tensors, and their digest.

    Args:
        folder: as `save` wrote it.
        model: a dense model of the same structure (changed in place), one shared by the same plan,
            or a function that builds one. On meta it receives the tensors themselves.
    Returns:
        The model, with the types of the file. A table may have grown since the plan was made.
    Raises:
        CheckpointError: a file is missing, cut off, changed or of a newer format, or the model
            is another.
    """
    folder = Path(folder)
    checkpoint, state = read_checkpoint(folder)
    target = cast("M", model if isinstance(model, nn.Module) else model())
    bank = bank_of(target)
    structure = structure_of(target) if bank is None else structure_now(target, bank.structure)
    tables = {name for source in checkpoint.plan.sources for name in (source.name, *source.tied)}
    if difference := checkpoint.structure.difference(structure, may_grow=tables):
        raise CheckpointError(
            path=folder,
            finding=f"it is of another model: {difference}",
            way_out="Build the model that was saved.",
        )
    try:
        wanted = {name: tuple(t.shape) for name, t in _expected(target, checkpoint.plan).items()}
        _check_tensors(folder, tables, state, wanted)
        share_from_embedding(target, checkpoint.plan, start=False)
    except PlanError as error:
        raise CheckpointError(
            path=folder,
            finding=f"its plan does not fit: {error}",
            way_out="Build the model that was saved.",
        ) from error
    _fill(target, state)
    return target


def _expected(model: nn.Module, plan: SharePlan) -> dict[str, Tensor]:
    """The state dict that the model will have, worked out on meta."""
    if bank_of(model) is not None:
        return dict(model.state_dict())
    return dict(share_from_embedding(meta_copy(model), plan, start=False).state_dict())


def meta_copy(model: M) -> M:
    """A copy of a model without its memory."""
    memo: dict[int, object] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    for module in model.modules():
        for value in vars(module).values():
            # The older `weight_norm` keeps what it computed last, which cannot be copied.
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = torch.empty_like(value, device="meta")
    return copy.deepcopy(model, memo)


def read_checkpoint(folder: Path) -> tuple[Checkpoint, dict[str, Tensor]]:
    """The two files of a checkpoint, each sound, and both of one save.

    Raises:
        CheckpointError: a file is missing, cut off, changed or of a newer format.
    """
    path = folder / WEIGHTS
    try:
        if (folder / DESCRIPTION).stat().st_size > LIMIT:
            raise _broken(folder / DESCRIPTION, f"is larger than {LIMIT:,} bytes")
        text = (folder / DESCRIPTION).read_bytes()
        with safetensors.safe_open(path, "pt") as file:
            inside = (file.metadata() or {}).get("embshare", "")
            _parse(folder / DESCRIPTION, text)  # sound, but perhaps of another save
            checkpoint = _parse(path, inside.encode())
            state = {name: file.get_tensor(name) for name in file.keys()}
    except OSError as error:
        raise _broken(folder, f"cannot be read ({error.strerror or error})") from error
    except (safetensors.SafetensorError, UnicodeError, ValueError) as error:
        if isinstance(error, EmbshareError):
            raise
        raise _broken(path, f"is not a sound safetensors file ({error})") from error
    if _digest(state, checkpoint.plan, checkpoint.structure) != checkpoint.digest:
        raise _broken(path, "has changed since it was saved (its digest differs)")
    return checkpoint, state


def _parse(path: Path, text: bytes) -> Checkpoint:
    try:
        found = json.loads(text)
        newer = (
            isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > 1
        )
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"is not JSON ({error})") from error
    if newer:
        raise CheckpointError(
            path=path,
            finding=f"has format {found['format']}, newer than 1",
            way_out="Upgrade embshare.",
        )
    try:
        return Checkpoint.from_json(text)
    except EmbshareError as error:
        raise _broken(path, str(error)) from error


def _broken(path: Path, finding: str) -> CheckpointError:
    return CheckpointError(
        path=path, finding=finding, way_out="Save it again, or take another copy."
    )


def _check_tensors(
    folder: Path,
    tables: set[str],
    state: dict[str, Tensor],
    wanted: dict[str, tuple[int, ...]],
) -> None:
    grown = {
        n for n, t in state.items() if n in tables and n in wanted and t.shape[0] > wanted[n][0]
    }
    for name in sorted(set(state) | set(wanted)):
        has = tuple(state[name].shape) if name in state else None
        needs = wanted.get(name)
        same = has == needs or (
            name in grown and has is not None and needs and has[1:] == needs[1:]
        )
        if not same:
            raise _broken(folder, f"`{name}` must be {needs or 'absent'}, but is {has or 'absent'}")


@torch.no_grad()
def _fill(model: nn.Module, state: dict[str, Tensor]) -> None:
    for name, tensor in model.state_dict(keep_vars=True).items():
        owner, _, leaf = name.rpartition(".")
        found = state[name]
        if tensor.device.type == "meta":
            module = model.get_submodule(owner)
            _assign(model, module, leaf, tensor, found)
        else:
            tensor.data = found.to(tensor.device)


def _assign(model: nn.Module, module: nn.Module, leaf: str, old: Tensor, new: Tensor) -> None:
    """In place of a tensor on meta, in every module that has it."""
    made = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    for other in model.modules():
        for held in (other._parameters, other._buffers):
            for name, tensor in held.items():
                if tensor is old:
                    held[name] = made  # type: ignore[assignment]
    assert leaf in module._parameters or leaf in module._buffers


def _digest(state: dict[str, Tensor], plan: SharePlan, structure: Structure) -> str:
    found = hashlib.sha256(plan.model_dump_json().encode())
    found.update(structure.model_dump_json().encode())
    for name in sorted(state):
        tensor = state[name].detach().contiguous().cpu()
        found.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        found.update(tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return found.hexdigest()


def _versions() -> dict[str, str]:
    from embshare import __version__

    return {
        "embshare": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
