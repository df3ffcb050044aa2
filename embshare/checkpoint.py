"""`save` and `load`: a folder of ``model.safetensors`` and ``embshare.json``, and no pickle.

The JSON is in the header of the weights file too, and ``embshare.json`` is written second.
A process killed between the two leaves new weights with their own description inside, which
`load` prefers: a pair is never mixed from two saves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from embshare._keys import DTYPE, ROOT
from embshare.checkpoint_files import (
    DESCRIPTION,
    WEIGHTS,
    Checkpoint,
    broken,
    digest_of,
    read_checkpoint,
    versions,
    write_file,
)
from embshare.errors import CheckpointError, NotSharedError, PlanError
from embshare.plan.values import SharePlan
from embshare.runtime.bank import Bank, bank_of, roots_of
from embshare.runtime.current_plan import (
    fit_state,
    places,
    plan_now,
    plan_to_save,
    structure_now,
    unfit_state,
)
from embshare.runtime.offloading import refuse_offloaded
from embshare.runtime.scales import describe, scales_of
from embshare.runtime.shared_layers import dtype_of
from embshare.runtime.tied_state_dict import aliases_of
from embshare.sharing import share_from_embedding
from embshare.structure import structure_of
from embshare.wrapping import layers_of_wrapping, meta_copy, plain_name, unwrapped

__all__ = ["load", "save"]

M = TypeVar("M", bound=nn.Module)
Rooted = tuple[str, nn.Module, Bank]


def save(model: nn.Module, folder: str | os.PathLike[str]) -> Path:
    """Write a shared model's stored tensors and plan.

    Layers that were replaced or frozen since are saved as they are now, with a plan of the others.

    Args:
        model: as `share_from_embedding` returned it, also inside of `torch.compile`, DDP or
            another wrapper, which are not saved; or a parent of shared models, saved as a whole.
        folder: made where it is missing; a checkpoint in it is replaced, each file in one step.
    Returns:
        The folder.
    Raises:
        NotSharedError: the model is dense, or a part of a shared model.
        TableReplacedError: it has another table than the one that its layers are derived from.
        CheckpointError: it cannot be written (a full disk, no permission); what was there stays.
            Or a table is pruned or parametrized since it was shared; or a copied layer shares its
            gains or residual with another, which no plan can say.
        OffloadedError: hooks of accelerate have moved values away.
    """
    target = _innermost(unwrapped(model))
    roots = list(roots_of(target))
    if not roots:
        raise NotSharedError(model=type(target).__name__)
    refuse_offloaded(target, "save")
    plans = {plain_name(path): _written(plan_to_save(root, bank)) for path, root, bank in roots}
    state = _stored(target, roots, plans)
    for name, tensor in state.items():
        if tensor.device.type == "meta":
            raise CheckpointError(
                path=folder, finding=f"`{name}` is on meta and has no values", hint="Load first."
            )
    whole = plans.get("") if len(plans) == 1 else None
    checkpoint = Checkpoint(
        format=2 if whole is None else 1,
        plan=whole,
        parts=plans if whole is None else {},
        dtypes=(dtypes := _dtypes(roots)),
        structure=(structure := structure_now(target)),
        digest=digest_of(state, plans, structure, dtypes),
        versions=versions(),
    )
    text = checkpoint.to_json()
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = safetensors.torch.save(state, metadata={"embshare": checkpoint.model_dump_json()})
        write_file(folder / WEIGHTS, weights)
        write_file(folder / DESCRIPTION, text.encode())
    except OSError as error:
        raise CheckpointError(
            path=folder,
            finding=f"cannot be written ({error.strerror or error})",
            hint="What was there before is unchanged; make room or choose another folder.",
        ) from error
    return folder


def _written(plan: SharePlan) -> SharePlan:
    """A plan as it is read back, so that both give one digest."""
    return SharePlan.from_json(plan.to_json())


def _innermost(model: nn.Module) -> nn.Module:
    """The shared model itself, where what is around it stores nothing."""
    return next((inner for inner in layers_of_wrapping(model) if ROOT in inner.__dict__), model)


def _stored(
    target: nn.Module, roots: Sequence[Rooted], plans: Mapping[str, SharePlan]
) -> dict[str, Tensor]:
    """What is written: each tensor once, and nothing of weights that are gone."""
    state: dict[str, Tensor] = dict(target.state_dict())
    for path, root, bank in roots:
        prefix = f"{path}." if path else ""
        state = fit_state(state, root, bank, plans[plain_name(path)], prefix)
    for name, kept in aliases_of(target).items():
        if kept in state:
            state.pop(name, None)
    return {plain_name(name): tensor.detach().contiguous() for name, tensor in state.items()}


def _dtypes(roots: Sequence[Rooted]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, root, bank in roots:
        for place in places(root, bank) if bank.mixed else ():
            own = place.layer.__dict__.get(DTYPE)
            if own is not None and own is not dtype_of(bank, place.layer):
                name = f"{path}.{place.name}" if path else place.name
                found[plain_name(name)] = str(own).removeprefix("torch.")
    return found


def load(folder: str | os.PathLike[str], model: M | Callable[[], M]) -> M:
    """Make a dense model shared as a checkpoint says, with the checkpoint's tensors, bit-equal.

    Everything is checked before the model is touched: the description's values, the structure of
    the model, the names, shapes and types of the tensors, and their digest.

    Args:
        folder: as `save` wrote it.
        model: a dense model of the same structure (changed in place), one shared by the same plan
            (where the same weights may be frozen or replaced), or a function that builds one; a
            wrapper around such a model will do. On meta it receives the tensors themselves.
    Returns:
        The model, with the types of the file. A table may have grown since the plan was made.
    Raises:
        CheckpointError: a file is missing, cut off, changed or of a newer format, or the model
            is another.
    """
    folder = Path(folder)
    checkpoint, state = read_checkpoint(folder)
    whole = cast("M", model if isinstance(model, nn.Module) else model())
    target = _matching(folder, checkpoint, whole)
    try:
        state = _unfitted(target, state, checkpoint.plans)
        expected = _expected(target, checkpoint.plans)
        state = _complete(state, expected, checkpoint.plans)
        wanted = {name: tuple(tensor.shape) for name, tensor in expected.items()}
        _check_tensors(folder, checkpoint.tables(), state, wanted)
        _check_types(folder, state, expected)
        for path, plan in checkpoint.plans.items():
            _share(target.get_submodule(path), plan)
    except (PlanError, AttributeError) as error:
        raise CheckpointError(
            path=folder,
            finding=f"its plan does not fit: {error}",
            hint="Build the model that was saved.",
        ) from error
    _fill(target, state)
    _set_dtypes(target, checkpoint.dtypes)
    return whole


def _matching(folder: Path, checkpoint: Checkpoint, model: nn.Module) -> nn.Module:
    """The model, or what is in it, that has the structure of the one that was saved."""
    tables, first = checkpoint.tables(), ""
    for inner in layers_of_wrapping(unwrapped(model)):
        structure = structure_of(inner) if bank_of(inner) is None else structure_now(inner)
        difference = checkpoint.structure.difference(structure, may_grow=tables)
        if not difference:
            return inner
        first = first or difference
    raise CheckpointError(
        path=folder,
        finding=f"it was saved from a different model: {first}",
        hint="Build the model that was saved.",
    )


def _share(model: nn.Module, plan: SharePlan) -> None:
    """Share by a plan, without values; a model of the same layout takes over its numbers."""
    bank = model.__dict__[ROOT].bank if ROOT in model.__dict__ else None
    if bank is not None and _is_left_of(model, bank, plan):
        return
    if bank is None or describe(bank.scales.plan) != describe(plan):
        share_from_embedding(model, plan, start=False)
    else:
        bank.adopt(plan)


def _is_left_of(model: nn.Module, bank: Bank, plan: SharePlan) -> bool:
    """Whether a plan is of what is left of a model's own, since weights were frozen or replaced."""
    wanted = describe(plan)
    return describe(bank.scales.plan) != wanted and describe(plan_now(model, bank)) == wanted


def _unfitted(
    model: nn.Module, state: dict[str, Tensor], plans: Mapping[str, SharePlan]
) -> dict[str, Tensor]:
    """A state as shared models have it from which weights are gone."""
    for path, root, bank in roots_of(model):
        plan = plans.get(plain_name(path))
        if plan is not None and _is_left_of(root, bank, plan):
            prefix = f"{plain_name(path)}." if path else ""
            state = unfit_state(state, root, bank, plan_now(root, bank), prefix)
    return state


def _expected(model: nn.Module, plans: Mapping[str, SharePlan]) -> dict[str, Tensor]:
    """The state dict that the model will have, worked out on meta; each tensor once."""
    if bank_of(model) is None:
        model = meta_copy(model)
        for path, plan in plans.items():
            _share(model.get_submodule(path), plan)
    state = dict(model.state_dict())
    return {name: t for name, t in state.items() if name not in _dropped(model, state)}


def _dropped(model: nn.Module, state: Mapping[str, Tensor]) -> set[str]:
    return {name for name, kept in aliases_of(model).items() if kept in state}


def _complete(
    state: dict[str, Tensor],
    expected: Mapping[str, Tensor],
    plans: Mapping[str, SharePlan],
) -> dict[str, Tensor]:
    """A state under the names of this model, with gains, which older files have in the plan."""
    actual = {plain_name(name): name for name in expected}
    found = {actual.get(name, name): tensor for name, tensor in state.items()}
    for path, plan in plans.items():
        for name, tensor in scales_of(plan).items():
            inside = (n for n in expected if not path or n.startswith(f"{path}."))
            place = next((n for n in inside if n.endswith(name)), None)
            if place is not None and place not in found:
                found[place] = tensor.to(expected[place].dtype)
    return found


def _set_dtypes(model: nn.Module, dtypes: Mapping[str, str]) -> None:
    """Derived weights get their table's dtype, but for those that were saved with another."""
    for path, root, bank in roots_of(model):
        bank.mixed = bool(dtypes)
        for place in places(root, bank):
            name = plain_name(f"{path}.{place.name}" if path else place.name)
            place.layer.__dict__.pop(DTYPE, None)
            if name in dtypes:
                place.layer.__dict__[DTYPE] = getattr(torch, dtypes[name])


def _check_tensors(
    folder: Path,
    tables: set[str],
    state: dict[str, Tensor],
    wanted: dict[str, tuple[int, ...]],
) -> None:
    grown = {
        name
        for name, found in state.items()
        if name in tables and name in wanted and found.dim() and found.shape[0] > wanted[name][0]
    }
    for name in sorted(set(state) | set(wanted)):
        has = tuple(state[name].shape) if name in state else None
        needs = wanted.get(name)
        same = has == needs or (
            name in grown and has is not None and needs and has[1:] == needs[1:]
        )
        if not same:
            shown = ["absent" if shape is None else shape for shape in (needs, has)]
            raise broken(folder, f"`{name}` must be {shown[0]}, but is {shown[1]}")


def _check_types(folder: Path, state: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """A number that is no float takes no float's place, which torch would refuse half way."""
    for name, needs in wanted.items():
        found = state[name].dtype
        if found != needs.dtype and not (found.is_floating_point and needs.is_floating_point()):
            raise broken(folder, f"`{name}` must be of type {needs.dtype}, but is of {found}")


@torch.no_grad()
def _fill(model: nn.Module, state: dict[str, Tensor]) -> None:
    target = dict(model.state_dict(keep_vars=True))
    for name in target.keys() - _dropped(model, target):
        tensor, found = target[name], state[name]
        owner, _, leaf = name.rpartition(".")
        if tensor.device.type == "meta":
            module = model.get_submodule(owner)
            _assign(model, module, leaf, tensor, found)
        else:
            tensor.data = found.to(tensor.device)


def _assign(model: nn.Module, module: nn.Module, leaf: str, old: Tensor, new: Tensor) -> None:
    """Replace a tensor on meta, in every module that has it."""
    made = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    for other in model.modules():
        for held in (other._parameters, other._buffers):
            for name, tensor in held.items():
                if tensor is old:
                    held[name] = made  # type: ignore[assignment]
    assert leaf in module._parameters or leaf in module._buffers
