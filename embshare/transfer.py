"""`load_part`: a shared model's weights in one with a different head, to be fine-tuned.

What both models have is taken: tables, projections, biases, norms, and the plan by which layers
read them. What only the new one has, its head, stays dense and as it was.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from embshare.checkpoint_files import read_checkpoint
from embshare.errors import CheckpointError, PlanError
from embshare.plan.migrate import numbers_kept, refit
from embshare.runtime.current_plan import renumbered
from embshare.sharing import BANK, share_from_embedding
from embshare.wrapping import meta_copy

__all__ = ["load_part"]

SCALES = ("scales.gains", "scales.spreads", "scales.layout")
"""Tensors that the plan brings."""
HINT = "Build a model whose table and layers have the names and sizes of the saved one's."


def load_part(
    folder: str | os.PathLike[str], model: nn.Module, *, parts: Sequence[str] = ()
) -> tuple[str, ...]:
    """Share a dense model as a checkpoint of another one says, as far as their names agree.

    Args:
        folder: as `embshare.save` wrote it.
        model: dense, changed in place. Its table and its layers have the names and shapes that
            they have in the model that was saved; it may lack some of them, and have others.
        parts: names of submodules, to take nothing but these: a head that happens to have the name
            of the new one is not the new one. None named are all.
    Returns:
        The names of what was not in the checkpoint and keeps its values: a new head.
    Raises:
        CheckpointError: a file is missing or changed, or the two models have no layers in common,
            or layers of one name and other shapes. The model is unchanged.
    """
    folder = Path(folder)
    checkpoint, state = read_checkpoint(folder)
    if checkpoint.plan is None:
        raise _unfit(folder, "it is of a parent of shared models")
    everything = _names_of(model)
    names = {name: same for name, same in everything.items() if _is_of(name, parts)}

    def here(name: str) -> str:
        return name

    try:
        plan = refit(checkpoint.plan, names, here)
        state = renumbered(state, BANK, *numbers_kept(checkpoint.plan, names, here))
        state = {n: t for n, t in state.items() if n not in everything or n in names}
        state = {n: t for n, t in state.items() if not n.endswith(SCALES)}
        expected = share_from_embedding(meta_copy(model), plan, start=False).state_dict()
    except PlanError as error:
        raise _unfit(folder, str(error).removesuffix(".")) from error
    untouched = _check(folder, expected, state, everything)
    share_from_embedding(model, plan, start=False)
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if name in state:
                tensor.data = state[name].to(tensor.device)
    return untouched


def _is_of(name: str, parts: Sequence[str]) -> bool:
    return not parts or any(name.startswith(f"{part}.") for part in parts)


def _names_of(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Every name of a parameter -> all names of the same parameter."""
    groups: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(parameter, []).append(name)
    return {name: tuple(group) for group in groups.values() for name in group}


def _check(
    folder: Path,
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    dense: Mapping[str, object],
) -> tuple[str, ...]:
    """What the checkpoint does not have, before the model is touched."""
    for name, tensor in expected.items():
        if name not in state and name not in dense and not name.endswith(SCALES):
            raise _unfit(folder, f"it has no `{name}`")
        if name in state and state[name].shape != tensor.shape:
            shapes = f"{tuple(state[name].shape)}, and {tuple(tensor.shape)} in this model"
            raise _unfit(folder, f"`{name}` is {shapes}")
    return tuple(n for n in expected if n not in state and not n.endswith(SCALES))


def _unfit(folder: Path, finding: str) -> CheckpointError:
    return CheckpointError(path=folder, finding=finding, hint=HINT)
