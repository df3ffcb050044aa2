"""`rewire`: the most important heads and neurons first, so that a narrow sub-network has them.

A stored weight is permuted in place. A derived weight cannot be: it is cut out of columns of a
table, row by row over a flat count, and a permutation of its rows is no permutation of columns. So
a shared model keeps the order beside its layers, and a smaller layer picks its rows by it; at full
width nothing is picked, and the model is what it was, bit for bit.

Letters: L layers, n heads of width s, m neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

from embshare._keys import KEY
from embshare.errors import InvalidValueError
from embshare.models.dynabert.blocks import Block, Part, blocks, is_derived, stored_in
from embshare.models.dynabert.elastic import COLUMN_ORDER, ROW_ORDER
from embshare.models.dynabert.importance import Importance
from embshare.models.dynabert.sizes import apply_size, configs, read_size
from embshare.runtime.shared_layers import INDEX

__all__ = ["ORDER_KEY", "restore", "rewire", "tied_groups"]

M = TypeVar("M", bound=nn.Module)

ORDER_KEY: Final = "dynabert_order"
"""Key of the orders of heads and neurons in the configuration of a shared model: each order once,
and for each layer the index of its order, None where weights were permuted."""


@torch.no_grad()
def rewire(model: M, importance: Importance) -> M:
    """Sort heads and neurons within each layer, the most important first, in place.

    At full width the model computes what it computed before. Layers that read one weight, as the
    tied layers of a shared model do, are sorted alike, by the sum of their importances: so a
    sub-network reads one part of that weight in all of them, as the whole model reads all of it.

    Call it before an optimizer is made: one that has stepped remembers the old order.

    Args:
        model: at any size; plain or shared.
        importance: of this model.
    Returns:
        The same model.
    Raises:
        InvalidValueError: the importance is of another shape, or has values that are not finite.
    """
    found = blocks(model)
    _check(importance, found)
    written: dict[str, Any] = {}
    for name, parts in _parts(found).items():
        orders: list[list[int]] = []
        order_of: list[int | None] = [None] * len(parts)
        for group in tied_groups(parts):
            order = _order(getattr(importance, name), group)
            if any(parts[index].derived for index in group):
                for index in group:
                    order_of[index] = len(orders)
                    _remember(parts[index], order)
                orders.append(order.tolist())
            else:
                _permute([parts[index] for index in group], order)
        written[name] = {"of": order_of, "orders": orders}
    for config in configs(model):
        config.__dict__.pop(ORDER_KEY, None)
        if any(part["orders"] for part in written.values()):
            setattr(config, ORDER_KEY, written)
    return model


def restore(model: M) -> M:
    """Set the orders and the size that a model's configuration has, after ``from_pretrained``.

    Args:
        model: whole, as it was saved by `set_size` or after `rewire`; any other stays as it is.
    Returns:
        The same model.
    Raises:
        InvalidValueError: what is there does not fit the model.
    """
    written = getattr(getattr(model, "config", None), ORDER_KEY, None)
    if written is not None:
        for name, parts in _parts(blocks(model)).items():
            for part, order in zip(parts, _read_orders(written, name, parts), strict=True):
                if order is not None:
                    _remember(part, order)
    size = read_size(model)
    if size is not None:
        apply_size(model, size)
    return model


def tied_groups(parts: Sequence[Part]) -> tuple[tuple[int, ...], ...]:
    """Layers whose parts read a weight in common, directly or through others.

    Two layers that tie but one of four matrices are cut alike in all of them: heads and neurons
    reach over the matrices of a part.

    Returns:
        Numbers of layers, ascending in each group; groups by their first.
    """
    groups: list[tuple[list[int], set[tuple[str, int, int]]]] = []
    for index, part in enumerate(parts):
        members, weights = [index], set(map(_identity, part.layers))
        for group in [group for group in groups if group[1] & weights]:
            groups.remove(group)
            members, weights = group[0] + members, group[1] | weights
        groups.append((members, weights))
    return tuple(sorted(tuple(sorted(members)) for members, _ in groups))


def _identity(layer: nn.Module) -> tuple[str, int, int]:
    """Equal for layers that read one weight: one slot of one bank, or one parameter."""
    if is_derived(layer):
        bank = layer.__dict__[KEY].get()
        return "slot", id(bank), bank.readers[layer.__dict__[INDEX]["weight"]].slot
    return "parameter", id(layer._parameters["weight"]), 0


def _parts(found: Sequence[Block]) -> dict[str, list[Part]]:
    """Parts that are sorted, by the names of `Importance` and of the configuration."""
    return {"heads": [b.attention for b in found], "neurons": [b.feed_forward for b in found]}


def _check(importance: Importance, found: Sequence[Block]) -> None:
    faults = []
    for name, parts in _parts(found).items():
        scores: Tensor = getattr(importance, name)
        if tuple(scores.shape) != (shape := (len(parts), parts[0].count)):
            faults.append(f"`{name}` must be {shape} for this model, but is {tuple(scores.shape)}")
        elif not bool(scores.isfinite().all()):
            faults.append(f"`{name}` must be finite")
    if faults:
        raise InvalidValueError(what="the importance", faults=faults)


def _order(scores: Tensor, group: Sequence[int]) -> Tensor:
    """Most important first, by the sum over layers; equals stay in the order that they have."""
    return torch.sort(scores[list(group)].sum(0), descending=True, stable=True).indices


def _permute(parts: Sequence[Part], order: Tensor) -> None:
    """Sort layers that are cut alike; a parameter that several of them have is permuted once."""
    stored: dict[int, tuple[Tensor, int]] = {}
    for part in parts:
        _forget(part)
        for layer in part.inner:
            stored |= {id(p): (p, 0) for p in layer.parameters(recurse=False)}
        stored[id(part.outer.weight)] = (part.outer.weight, 1)
    rows = _rows(order, parts[0].unit)
    for parameter, dim in stored.values():
        parameter.copy_(parameter.index_select(dim, rows.to(parameter.device)))


def _forget(part: Part) -> None:
    """Drop the orders that a materialized model has from the time when it was shared."""
    for layer in part.layers:
        for name in (ROW_ORDER, COLUMN_ORDER):
            layer._buffers.pop(name, None)
            layer._non_persistent_buffers_set.discard(name)
        layer.__dict__.pop("order_key", None)


def _remember(part: Part, order: Tensor) -> None:
    """Let the part's layers pick by an order when they are cut."""
    rows = _rows(order, part.unit)
    for layer in part.layers:
        name = COLUMN_ORDER if layer is part.outer else ROW_ORDER
        layer.register_buffer(name, rows.to(stored_in(layer).device), persistent=False)
        layer.__dict__["order_key"] = hash(tuple(order.tolist()))


def _rows(order: Tensor, unit: int) -> Tensor:
    """Rows of units, such as heads: ``[n]`` to ``[n unit]``."""
    return (order[:, None] * unit + torch.arange(unit, device=order.device)).flatten()


def _read_orders(written: Any, name: str, parts: Sequence[Part]) -> list[Tensor | None]:
    """The order of each layer, from the configuration.

    Raises:
        InvalidValueError: they are not orders of this model's heads or neurons.
    """
    count = parts[0].count
    try:
        order_of, orders = written[name]["of"], written[name]["orders"]
        if len(order_of) == len(parts) and all(sorted(o) == list(range(count)) for o in orders):
            made = [torch.tensor(order) for order in orders]
            return [None if index is None else made[index] for index in order_of]
    except (KeyError, TypeError, IndexError):
        pass
    fault = f"`{ORDER_KEY}` must have, as `{name}`, orders of {count} for {len(parts)} layers"
    raise InvalidValueError(what="the configuration", faults=[fault])
