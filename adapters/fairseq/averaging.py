"""Average checkpoints of one run, as fairseq's ``average_checkpoints.py`` does.

    python -m embshare.adapters.fairseq.averaging OUT.pt checkpoint8.pt checkpoint9.pt

fairseq's script is not part of its package. It works on shared checkpoints as well; this one also
refuses checkpoints of different plans, whose tables are not about the same weights.
"""

from __future__ import annotations

import argparse
import os
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

from embshare.adapters.fairseq.pinning import plan_of
from embshare.errors import CheckpointError

__all__ = ["average", "main"]


def average(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Any]:
    """The first checkpoint, with the mean of all weights.

    Args:
        paths: files that ``fairseq-train`` wrote; of one run, or of runs that began as one.
    Returns:
        A checkpoint; ``torch.save`` it. Floating tensors are summed in double precision and keep
        their type, integers are those of the first file.
    Raises:
        CheckpointError: a file cannot be read, or is of a different model or plan.
    """
    if not paths:
        raise CheckpointError(path="", finding="no checkpoint to average", hint="Name some.")
    first = _read(paths[0])
    sums = {name: tensor.double() for name, tensor in first["model"].items() if _counts(tensor)}
    for path in paths[1:]:
        _add(sums, first, path)
    means = OrderedDict(first["model"])
    for name, total in sums.items():
        means[name] = (total / len(paths)).to(first["model"][name].dtype)
    return {**first, "model": means}


def _counts(tensor: Tensor) -> bool:
    return bool(tensor.is_floating_point())


def _add(sums: dict[str, Tensor], first: dict[str, Any], path: str | os.PathLike[str]) -> None:
    other = _read(path)
    if plan_of(other) != plan_of(first):
        raise CheckpointError(
            path=path,
            finding="it is shared by another plan than the first checkpoint",
            hint="Average checkpoints of one run.",
        )
    shapes = [
        {name: tensor.shape for name, tensor in each["model"].items()} for each in (first, other)
    ]
    if shapes[0] != shapes[1]:
        raise CheckpointError(
            path=path,
            finding="its weights have other names or shapes than those of the first checkpoint",
            hint="Average checkpoints of one run.",
        )
    for name in sums:
        sums[name] += other["model"][name].double()


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A file as it is, unpickled with nothing allowed but tensors, plain values and Namespaces."""
    try:
        with safe_globals([Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a missing, broken or hostile file makes of it
        raise _unreadable(path, error) from error
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise _unreadable(path, "it holds no model")
    return found


def _unreadable(path: str | os.PathLike[str], why: object) -> CheckpointError:
    said = str(why).splitlines()[0] if str(why) else type(why).__name__
    return CheckpointError(
        path=path, finding=f"cannot be read ({said})", hint="Name a checkpoint of fairseq-train."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, average, and write next to the target before it takes its name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    given = parser.parse_args(arguments)
    state = average(given.checkpoints)
    part = given.out.with_name(f".{given.out.name}.part")
    torch.save(state, part)
    part.replace(given.out)


if __name__ == "__main__":
    main()
