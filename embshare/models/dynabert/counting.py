"""What a sub-network stores and computes, worked out without computing anything.

Letters: H the model's width, a the width of attention, m neurons, T positions.
"""

from __future__ import annotations

import math

from torch import nn

from embshare.errors import InvalidValueError
from embshare.models.dynabert.blocks import Block, blocks, layer_list, require_fit
from embshare.models.dynabert.sizes import Rounding, Size, kept_heads, kept_layers, kept_neurons
from embshare.runtime.bank import bank_of
from embshare.runtime.current_plan import structure_now
from embshare.structure import Structure, structure_of

__all__ = ["count_operations", "count_parameters"]


def count_parameters(
    model: nn.Module, *, width: float = 1.0, depth: float = 1.0, rounding: Rounding = "exact"
) -> int:
    """Parameters of what `extract` would make of a model, a tied one once.

    Of a shared model too these are what the *plain* sub-network stores. The shared one stores the
    same at every size.

    Args:
        model: plain or shared; may be on meta.
        width: as in `sized`.
        depth: as in `sized`.
        rounding: as in `sized`.
    Raises:
        InvalidValueError: as `sized`.
    """
    require_fit(model, Size(width=width, depth=depth, rounding=rounding))
    found, layers = blocks(model), layer_list(model)
    place = next(name for name, module in model.named_modules() if module is layers)
    kept = kept_layers(len(found), depth)
    structure = _dense(model)
    first = {name: names[0] for names in structure.ties for name in names}
    counts: dict[str, int] = {}
    for name, shape in structure.tensors.items():
        inside = name.removeprefix(f"{place}.")
        if inside != name:
            number, _, inside = inside.partition(".")
            if int(number) not in kept:
                continue
            shape = _cut(inside, shape, found[int(number)], width)
        counts[first.get(name, name)] = math.prod(shape)
    return sum(counts.values())


def _dense(model: nn.Module) -> Structure:
    """Names, shapes and ties of the plain model."""
    return structure_of(model) if bank_of(model) is None else structure_now(model)


def _cut(name: str, shape: tuple[int, ...], block: Block, width: float) -> tuple[int, ...]:
    """The shape of one parameter of a layer that was made narrower."""
    attention = kept_heads(block.heads, width) * block.head_size
    neurons = kept_neurons(block.neurons, block.heads, width)
    if name.startswith("attention.self."):
        return attention, *shape[1:]
    if name.startswith("intermediate.dense."):
        return neurons, *shape[1:]
    columns = {"attention.output.dense.weight": attention, "output.dense.weight": neurons}
    return (shape[0], columns[name]) if name in columns else shape


def count_operations(
    model: nn.Module,
    *,
    positions: int = 128,
    width: float = 1.0,
    depth: float = 1.0,
    rounding: Rounding = "exact",
) -> int:
    """Multiplications and additions of the layers, for one sequence of ``T`` positions.

    Two for each element of each matrix product: four projections of attention, its scores and its
    means, and the feed-forward part. Sharing changes none of them.

    Raises:
        InvalidValueError: as `sized`, or ``positions`` is below 1.
    """
    if positions < 1:
        fault = f"`positions` must be at least 1, but is {positions}"
        raise InvalidValueError(what="the input", faults=[fault])
    require_fit(model, Size(width=width, depth=depth, rounding=rounding))
    found = blocks(model)
    kept = kept_layers(len(found), depth)
    return sum(_operations(found[index], width, positions) for index in kept)


def _operations(block: Block, width: float, positions: int) -> int:
    hidden = block.output.out_features
    attention = kept_heads(block.heads, width) * block.head_size
    neurons = kept_neurons(block.neurons, block.heads, width)
    matrices = 4 * hidden * attention + 2 * hidden * neurons
    return 2 * (positions * matrices + 2 * positions * positions * attention)
