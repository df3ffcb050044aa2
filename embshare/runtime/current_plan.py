"""A shared model as it is now: what was replaced, copied or frozen since it was planned.

The bank keeps the plan that its columns were assigned by. A layer may have been replaced by another
since, a head by one for other classes, a block appended as a copy of one that is there. What a
checkpoint has to say is the plan of the layers that are left, under the names that they have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from embshare._keys import KEY
from embshare.errors import CheckpointError, NotSharedError
from embshare.plan.slots import LeftDense, Source
from embshare.plan.values import SharePlan
from embshare.runtime.bank import BLOCKS, RELAXATIONS, roots_of
from embshare.runtime.factorized import FactorMap, is_factored
from embshare.runtime.loading import bank_name
from embshare.runtime.scales import encoded
from embshare.runtime.shared_layers import SharedLayer, derived_names, parameter_order
from embshare.structure import Structure
from embshare.wrapping import plain_name

if TYPE_CHECKING:
    from embshare.runtime.bank import Bank

__all__ = [
    "TRAINED",
    "Place",
    "fit_state",
    "frozen_layers",
    "mark_trained",
    "places",
    "plan_now",
    "plan_to_save",
    "renumbered",
    "structure_now",
    "unfit_state",
]

REPLACED = "replaced or frozen after sharing"
TRAINED = "_embshare_trained"
"""In modules with shared layers that trained something of what they store when it was shared."""


@dataclass(frozen=True)
class Place:
    """A derived weight and its place in a model."""

    name: str
    layer: nn.Module
    leaf: str
    reader: int


def places(model: nn.Module, bank: Bank) -> Iterator[Place]:
    """Every derived weight of a bank in a model, under each of its names, in order."""
    for path, layer in model.named_modules(remove_duplicate=False):
        if not isinstance(layer, SharedLayer) or layer.__dict__[KEY].bank is not bank:
            continue
        for leaf, reader in derived_names(layer).items():
            yield Place(f"{path}.{leaf}" if path else leaf, layer, leaf, reader)


def plan_now(root: nn.Module, bank: Bank) -> SharePlan:
    """The plan of what a shared model derives now.

    Layers that were replaced or frozen are left out, copies of layers are added to the slot that
    they read; each column stays where it is.

    Args:
        root: the model that was shared.
        bank: its own.
    Raises:
        TableReplacedError: the model has no longer the table that its layers read.
        CheckpointError: a copied layer shares the gains or the residual of its original, which
            no plan can say.
        NotSharedError: nothing is derived any more.
    """
    bank.check_tables(root)
    plan = bank.plan
    found: dict[int, list[Place]] = defaultdict(list)
    for place in places(root, bank):
        found[bank.readers[place.reader].slot].append(place)
    planned = {name: number for number, name in enumerate(plan.weights())}
    if {p.name for group in found.values() for p in group} != planned.keys():
        if not found:
            raise NotSharedError(model=type(root).__name__, emptied=True)
        if bank.relaxations:
            _refuse_copies(found, bank)
    slots = tuple(
        slot.model_copy(update={"weights": _names(found[number], planned)})
        for number, slot in enumerate(plan.slots)
        if found[number]
    )
    sources = tuple(_source(root, source) for source in plan.sources)
    if slots == plan.slots and sources == plan.sources:
        return plan
    left = tuple(entry for entry in plan.left_dense if entry.reason != REPLACED)
    stored = {name for group in found.values() for name in (p.name for p in group)}
    gone = tuple(
        LeftDense(weight=name, numel=slot.numel, reason=REPLACED)
        for slot in plan.slots
        for name in slot.weights
        if name not in stored
    )
    update = {"slots": slots, "sources": sources, "left_dense": left + gone}
    return SharePlan.from_json(plan.model_copy(update=update).to_json())  # validated again


def plan_to_save(root: nn.Module, bank: Bank) -> SharePlan:
    """`plan_now`, where a dense model can be shared by it.

    Raises:
        CheckpointError: a table is pruned or parametrized since; or as of `plan_now`.
        TableReplacedError, NotSharedError: as of `plan_now`.
    """
    for columns in bank.columns:
        columns.check_saved()
    return plan_now(root, bank)


def _names(group: list[Place], planned: Mapping[str, int]) -> tuple[str, ...]:
    """Names of one slot: those of the plan in its order, then what was added."""
    names = dict.fromkeys(place.name for place in group)
    return tuple(sorted(names, key=lambda name: planned.get(name, len(planned))))


def _refuse_copies(found: Mapping[int, list[Place]], bank: Bank) -> None:
    """Refuse copied layers, which share what a plan gives each name: a gain and a residual."""
    readers = Counter(place.reader for group in found.values() for place in group)
    for group in found.values():
        for place in group:
            if readers[place.reader] > bank.readers[place.reader].names:
                raise CheckpointError(
                    path=place.name,
                    finding="shares its gains or its residual with a layer that it is a copy of, "
                    "which no plan can say",
                    hint="Call embshare.materialize(model), and share the materialized model.",
                )


def _source(root: nn.Module, source: Source) -> Source:
    """A source with the names that its table has now besides its own."""
    found = dict(root.named_parameters(remove_duplicate=False))
    table = found.get(source.name)
    if table is None:  # wrapped, as by an adapter: its names are not the plan's business
        return source
    tied = tuple(n for n, p in found.items() if p is table and n != source.name)
    return source if set(tied) == set(source.tied) else source.model_copy(update={"tied": tied})


def structure_now(model: nn.Module) -> Structure:
    """The structure of the dense model that a shared one, or a parent of some, stands for now."""
    tensors: dict[str, tuple[int, ...]] = {}
    groups: dict[object, list[str]] = defaultdict(list)
    planned, inside = set[str](), set[nn.Module]()
    for path, _, bank in roots_of(model):
        planned |= {f"{path}.{name}" if path else name for name in bank.scales.plan.weights()}
        inside |= set(bank.modules())
    inside |= {
        m for found in model.modules() if isinstance(found, FactorMap) for m in found.modules()
    }
    for path, module in model.named_modules(remove_duplicate=False):
        if module in inside:
            continue
        derived = derived_names(module)
        for leaf in parameter_order(module):
            name = f"{path}.{leaf}" if path else leaf
            if leaf in derived:
                reader, bank = derived[leaf], module.__dict__[KEY].get()
                tensors[plain_name(name)] = bank.scales.plan.slots[bank.readers[reader].slot].shape
                key: object = (id(bank), reader) if name in planned else name
            elif (parameter := module._parameters.get(leaf)) is not None:
                tensors[plain_name(name)] = _dense_shape(module, leaf, parameter)
                key = id(parameter)
            else:
                continue
            groups[key].append(plain_name(name))
    ties = tuple(tuple(group) for group in groups.values() if len(group) > 1)
    return Structure(tensors=tensors, ties=ties)


def _dense_shape(module: nn.Module, leaf: str, parameter: Tensor) -> tuple[int, ...]:
    if leaf == "weight" and is_factored(module):
        return parameter.shape[0], module.__dict__["_embshare_factor"].weight.shape[0]
    return tuple(parameter.shape)


def fit_state(
    state: Mapping[str, Tensor], root: nn.Module, bank: Bank, plan: SharePlan, prefix: str = ""
) -> dict[str, Tensor]:
    """A state dict without what belongs to weights that are gone; what is left moves up.

    Args:
        state: of the shared model.
        root: the model that was shared.
        bank: its own.
        plan: from `plan_now`.
        prefix: of the shared model's names in the state dict.
    """
    if plan == bank.plan:
        return dict(state)
    name = prefix + bank_name(root)
    kept_readers, kept_slots = _kept(root, bank, plan)
    found = renumbered(state, name, kept_readers, kept_slots)
    for key, tensor in found.items():
        if key == f"{name}.scales.gains":
            found[key] = tensor[kept_slots]
        elif key == f"{name}.scales.layout":
            found[key] = encoded(plan).to(tensor.device)
    return found


def renumbered(
    state: Mapping[str, Tensor], name: str, readers: Sequence[int], slots: Sequence[int]
) -> dict[str, Tensor]:
    """A state dict without what belongs to readers and slots that are gone; the others move up.

    Args:
        state: of a shared model.
        name: of its bank in it.
        readers: the numbers of those that are left, in their new order.
        slots: of the slots that are left.
    """
    numbers = {
        f"{name}.{part}.{old}": f"{name}.{part}.{new}"
        for part, left in ((RELAXATIONS, readers), (BLOCKS, slots))
        for new, old in enumerate(left)
    }
    numbered = tuple(f"{name}.{part}." for part in (RELAXATIONS, BLOCKS))
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        prefix = next((prefix for prefix in numbered if key.startswith(prefix)), None)
        if prefix is None:
            found[key] = tensor
            continue
        number = prefix + key.removeprefix(prefix).partition(".")[0]
        if number in numbers:
            found[numbers[number] + key.removeprefix(number)] = tensor
    return found


def _kept(root: nn.Module, bank: Bank, plan: SharePlan) -> tuple[list[int], list[int]]:
    """Readers and slots of a bank that a plan of what is left has, in the plan's order."""
    readers = {place.name: place.reader for place in places(root, bank)}
    kept = dict.fromkeys(readers[weight] for weight in plan.weights())
    return list(kept), list(dict.fromkeys(bank.readers[reader].slot for reader in kept))


def unfit_state(
    state: Mapping[str, Tensor], root: nn.Module, bank: Bank, plan: SharePlan, prefix: str = ""
) -> dict[str, Tensor]:
    """Undo `fit_state`: what belongs to weights that are gone is as this model has it.

    Args:
        state: as `fit_state` gave it, of a model from which the same weights are gone.
        root: the model that was shared.
        bank: its own.
        plan: from `plan_now`.
        prefix: of the shared model's names in the state.
    """
    name = prefix + bank_name(root)
    readers, slots = _kept(root, bank, plan)
    found: dict[str, Tensor] = {}
    left = {RELAXATIONS: readers, BLOCKS: slots}
    for key, tensor in bank.state_dict().items():
        part, _, rest = key.partition(".")
        if part in left and int(rest.partition(".")[0]) not in left[part]:
            found[f"{name}.{key}"] = tensor.detach().clone()
    for key, tensor in state.items():
        part, _, rest = key.removeprefix(f"{name}.").partition(".")
        if key == f"{name}.scales.gains":
            found[key] = bank.scales.gains.to(tensor).index_copy(0, torch.tensor(slots), tensor)
        elif key == f"{name}.scales.layout":
            found[key] = encoded(bank.scales.plan).to(tensor.device)
        elif key.startswith(f"{name}.") and part in left:
            number, dot, leaf = rest.partition(".")
            found[f"{name}.{part}.{left[part][int(number)]}{dot}{leaf}"] = tensor
        else:
            found[key] = tensor
    return found


def mark_trained(model: nn.Module, layers: Collection[nn.Module], plan: SharePlan) -> None:
    """Note which modules train what they store, before their layers are shared."""
    derived = {*plan.weights(), *(n for s in plan.sources for n in (s.name, *s.tied))}
    trained = {
        name.rpartition(".")[0]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.requires_grad and name not in derived
    }
    for path, module in model.named_modules():
        if any(layer in layers for layer in module.modules()) and any(
            place == path or place.startswith(f"{path}.") for place in trained
        ):
            module.__dict__[TRAINED] = True


def frozen_layers(root: nn.Module, bank: Bank) -> list[str]:
    """Modules whose stored parameters were all frozen since, while their weights still change.

    A derived weight moves as long as its table or its projection is trained, whatever
    ``requires_grad`` says of the biases beside it.
    """
    if not bank.trains():
        return []
    found: list[str] = []
    for path, module in root.named_modules():
        ref = module.__dict__.get(KEY)
        if module is root or ref is None or ref.bank is not bank or _is_inside(path, found):
            continue
        slots = {bank.readers[n].slot for m in module.modules() for n in derived_names(m).values()}
        if not any(t.requires_grad for slot in slots for t in bank.material(slot).trained(slot)):
            continue  # `freeze` had all its layers store their weights; or they do not move
        stored = [p for p in module.parameters() if not _is_of(bank, p)]
        if stored and module.__dict__.get(TRAINED) and not any(p.requires_grad for p in stored):
            found.append(path)
    return found


def _is_inside(path: str, found: list[str]) -> bool:
    return any(path.startswith(f"{outer}.") for outer in found)


def _is_of(bank: Bank, parameter: nn.Parameter) -> bool:
    return any(parameter is own for own in bank.trained())
