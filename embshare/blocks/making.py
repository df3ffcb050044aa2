"""`materials_of`: what a plan's blocks are made of, by its method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from torch import Tensor, nn

from embshare.blocks.columns import Columns
from embshare.blocks.material import Material
from embshare.blocks.own import Own
from embshare.plan.values import SharePlan

__all__ = ["materials_of"]

Modules = Mapping[str, nn.Module]


def materials_of(
    plan: SharePlan, modules: Modules, likes: Mapping[int, Tensor]
) -> tuple[Material, ...]:
    """Allocate what a plan's blocks are made of; the model is not touched.

    Args:
        plan: made for the model.
        modules: of the model, by name.
        likes: of each slot, the weight that the first of its layers has.
    Returns:
        As many as `Slot.material` counts.
    """
    return _MADE[plan.config.method](plan, modules, likes)


def _columns(plan: SharePlan, modules: Modules, _: Mapping[int, Tensor]) -> tuple[Material, ...]:
    made = []
    for source in plan.sources:
        owner, leaf = modules[source.name.rpartition(".")[0]], source.name.rpartition(".")[2]
        table = owner._parameters[leaf]
        assert table is not None
        projected, column_bias = plan.config.method == "veps", plan.config.column_bias
        made.append(
            Columns(source, owner, like=table, projected=projected, column_bias=column_bias)
        )
    return tuple(made)


def _own(_: SharePlan, __: Modules, likes: Mapping[int, Tensor]) -> tuple[Material, ...]:
    return (Own(likes),)


_MADE: Final[Mapping[str, Callable[..., tuple[Material, ...]]]] = MappingProxyType(
    {"eps": _columns, "veps": _columns, "own": _own}
)
