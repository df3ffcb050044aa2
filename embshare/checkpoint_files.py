"""The two files of a checkpoint: what ``embshare.json`` holds, and how both are read and written.

Nothing in them is trusted, and nothing is allocated before it was checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import safetensors
import torch
from pydantic import Field, model_validator
from torch import Tensor

from embshare._value import Value
from embshare._version import __version__
from embshare.errors import CheckpointError, EmbshareError
from embshare.plan.values import SharePlan
from embshare.runtime.scales import scales_of
from embshare.structure import Structure

__all__ = [
    "DESCRIPTION",
    "WEIGHTS",
    "Checkpoint",
    "broken",
    "digest_of",
    "read_checkpoint",
    "versions",
    "write_file",
]

WEIGHTS, DESCRIPTION = "model.safetensors", "embshare.json"
LIMIT = 64 * 2**20
"""Bytes of JSON that are read; a plan of a thousand layers has less than one percent of it."""


class Checkpoint(Value):
    """What ``embshare.json`` holds."""

    format: Literal[1, 2]
    """1: of one shared model; 2: of a parent of shared models, with ``parts``."""
    plan: SharePlan | None = None
    parts: dict[str, SharePlan] = Field(default_factory=dict)
    """Name of a shared model in the one that was saved -> its plan."""
    dtypes: dict[str, Literal["float64", "float32", "float16", "bfloat16"]] = Field(
        default_factory=dict
    )
    """Derived weights whose dtype is not that of their table."""
    structure: Structure
    """Structure of the dense model, which a model must have to load this."""
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of plan, structure and every tensor's name, type, shape and bytes."""
    versions: dict[str, str]

    @property
    def plans(self) -> dict[str, SharePlan]:
        """Name of a shared model, empty for the whole -> its plan."""
        return self.parts if self.plan is None else {"": self.plan}

    @model_validator(mode="after")
    def _one_or_parts(self) -> Checkpoint:
        if (self.plan is None) == (not self.parts) or (self.format == 2) != bool(self.parts):
            raise ValueError("must have a `plan` in format 1, or `parts` in format 2")
        return self

    def tables(self) -> set[str]:
        """Names of every source, whose rows may have grown since it was planned."""
        return {
            f"{path}.{name}" if path else name
            for path, plan in self.plans.items()
            for source in plan.sources
            for name in (source.name, *source.tied)
        }


def read_checkpoint(folder: Path) -> tuple[Checkpoint, dict[str, Tensor]]:
    """The two files of a checkpoint, each sound, and both of one save.

    Raises:
        CheckpointError: a file is missing, cut off, changed or of a newer format.
    """
    path = folder / WEIGHTS
    try:
        if (folder / DESCRIPTION).stat().st_size > LIMIT:
            raise broken(folder / DESCRIPTION, f"is larger than {LIMIT:,} bytes")
        text = (folder / DESCRIPTION).read_bytes()
        with safetensors.safe_open(path, "pt") as file:
            inside = (file.metadata() or {}).get("embshare", "")
            _parse(folder / DESCRIPTION, text)  # sound, but perhaps of another save
            checkpoint = _parse(path, inside.encode())
            # Clones: a slice of the file's map lies unaligned, and torch runs other kernels on
            # it, whose last bits differ.
            state = {name: file.get_tensor(name).clone() for name in file.keys()}
    except OSError as error:
        raise broken(folder, f"cannot be read ({error.strerror or error})") from error
    except (safetensors.SafetensorError, UnicodeError, ValueError) as error:
        if isinstance(error, EmbshareError):
            raise
        raise broken(path, f"is not a sound safetensors file ({error})") from error
    if _digest_of(checkpoint, state) != checkpoint.digest:
        raise broken(path, "has changed since it was saved (its digest differs)")
    _check_scales(path, checkpoint, state)
    return checkpoint, state


def _check_scales(path: Path, checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> None:
    """Compare the gains in the plan with those among the tensors of the same file."""
    for part, plan in checkpoint.plans.items():
        known = scales_of(plan)
        for name, tensor in state.items():
            leaf = next((leaf for leaf in known if name.endswith(f".{leaf}")), None)
            if leaf is None or (part and not name.startswith(f"{part}.")):
                continue
            needs = known[leaf].to(tensor.dtype)
            if needs.shape != tensor.shape or not torch.equal(needs, tensor):
                raise broken(path, f"has `{name}` of a different model than its plan")


def _parse(path: Path, text: bytes) -> Checkpoint:
    try:
        found = json.loads(text)
        newer = (
            isinstance(found, dict) and isinstance(found.get("format"), int) and found["format"] > 2
        )
    except (ValueError, RecursionError) as error:
        raise broken(path, f"is not JSON ({error})") from error
    if newer:
        raise CheckpointError(
            path=path,
            finding=f"has format {found['format']}, newer than 2",
            hint="Upgrade embshare.",
        )
    try:
        return Checkpoint.from_json(text)
    except EmbshareError as error:
        raise broken(path, str(error)) from error


def broken(path: Path, finding: str) -> CheckpointError:
    """The error of a file that is not as it was written."""
    return CheckpointError(path=path, finding=finding, hint="Save it again, or take another copy.")


def write_file(path: Path, data: bytes) -> None:
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


def _digest_of(checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> str:
    return digest_of(state, checkpoint.plans, checkpoint.structure, checkpoint.dtypes)


def digest_of(
    state: Mapping[str, Tensor],
    plans: Mapping[str, SharePlan],
    structure: Structure,
    dtypes: Mapping[str, str],
) -> str:
    """SHA-256 of plans, structure, dtypes and every tensor's name, type, shape and bytes."""
    found = hashlib.sha256()
    for path, plan in plans.items():
        # A field that a later version has is not set in a plan of an earlier one, nor digested.
        found.update(f"{path}{plan.model_dump_json(exclude_unset=True)}".encode())
    found.update(structure.model_dump_json().encode())
    found.update(json.dumps(dtypes, sort_keys=True).encode() if dtypes else b"")
    for name in sorted(state):
        tensor = state[name].detach().contiguous().cpu()
        found.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        found.update(tensor.view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return found.hexdigest()


def versions() -> dict[str, str]:
    """What a checkpoint was written by."""
    return {
        "embshare": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
