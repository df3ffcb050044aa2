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

from embshare.errors import InvalidValueError
from embshare.models.dynabert.blocks import Block, blocks
from embshare.models.dynabert.elastic import COLUMN_ORDER, ROW_ORDER
from embshare.models.dynabert.importance import Importance
from embshare.models.dynabert.sizing import apply_size, configs, read_size
from embshare.models.dynabert.ties import (
    Part,
    attention_of,
    feed_forward_of,
    stored_in,
    tied_groups,
)

__all__ = ["ORDER_KEY", "restore", "rewire"]

M = TypeVar("M", bound=nn.Module)

ORDER_KEY: Final = "dynabert_order"
"""Where the configuration of a shared model has the orders of its heads and neurons."""


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
    for name, parts, scores in (
        ("heads", attention_of(found), importance.heads),
        ("neurons", feed_forward_of(found), importance.neurons),
    ):
        groups = tied_groups(parts)
        orders = [_order(scores, group) for group in groups]
        for group, order in zip(groups, orders, strict=True):
            _sort([parts[index] for index in group], order)
        written[name] = _to_json(parts, groups, orders)
    for config in configs(model):
        config.__dict__.pop(ORDER_KEY, None)
        if any(number is not None for part in written.values() for number in part["of"]):
            setattr(config, ORDER_KEY, written)
    return model


def restore(model: M) -> M:
    """Set the orders and the size that a model's configuration has, after ``from_pretrained``.

    Args:
        model: whole, as it was saved by `set_size` or after `rewire`; any other stays as it is.
    Returns:
        The same model.
    Raises:
        InvalidValueError: what stands there does not fit the model.
    """
    found = blocks(model)
    written = getattr(getattr(model, "config", None), ORDER_KEY, None)
    if written is not None:
        for name, parts in (("heads", attention_of(found)), ("neurons", feed_forward_of(found))):
            units = found[0].heads if name == "heads" else found[0].neurons
            orders = _from_json(written, name, len(parts), units)
            for part, order in zip(parts, orders, strict=True):
                if order is not None:
                    _remember(part, order)
    size = read_size(model)
    if size is not None:
        apply_size(model, size)
    return model


def _order(scores: Tensor, group: Sequence[int]) -> Tensor:
    """Most important first, by the sum over layers; equals stay in the order that they have."""
    return torch.sort(scores[list(group)].sum(0), descending=True, stable=True).indices


def _sort(parts: Sequence[Part], order: Tensor) -> None:
    """Layers that are cut alike; a parameter that several of them have is permuted once."""
    if any(part.derived for part in parts):
        for part in parts:
            _remember(part, order)
        return
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
    """Drop the orders that a model made plain again has from the time when it was shared."""
    for layer in part.layers:
        for name in (ROW_ORDER, COLUMN_ORDER):
            layer._buffers.pop(name, None)
            layer._non_persistent_buffers_set.discard(name)
        layer.__dict__.pop("order_key", None)


def _remember(part: Part, order: Tensor) -> None:
    """Let the part's layers pick by an order when they are cut."""
    rows = _rows(order, part.unit)
    for layer in part.layers:
        layer.__dict__["order_key"] = hash(tuple(order.tolist()))
    for layer in part.inner:
        layer.register_buffer(ROW_ORDER, rows.to(stored_in(layer).device), persistent=False)
    device = stored_in(part.outer).device
    part.outer.register_buffer(COLUMN_ORDER, rows.to(device), persistent=False)


def _rows(order: Tensor, unit: int) -> Tensor:
    """Of units, such as heads, to rows: ``[n]`` to ``[n unit]``."""
    return (order[:, None] * unit + torch.arange(unit, device=order.device)).flatten()


def _check(importance: Importance, found: Sequence[Block]) -> None:
    needs = {
        "heads": (len(found), found[0].heads),
        "neurons": (len(found), found[0].neurons),
    }
    faults = []
    for name, shape in needs.items():
        scores: Tensor = getattr(importance, name)
        if tuple(scores.shape) != shape:
            faults.append(f"`{name}` must be {shape} for this model, but is {tuple(scores.shape)}")
        elif not bool(scores.isfinite().all()):
            faults.append(f"`{name}` must be finite")
    if faults:
        raise InvalidValueError(what="the importance", faults=faults)


def _to_json(
    parts: Sequence[Part], groups: Sequence[Sequence[int]], orders: Sequence[Tensor]
) -> dict[str, Any]:
    """Each order once, and which of them each layer has; None where weights were permuted."""
    derived = [any(parts[index].derived for index in group) for group in groups]
    kept = [number for number, wanted in enumerate(derived) if wanted]
    place = {number: index for index, number in enumerate(kept)}
    of = {layer: place.get(number) for number, group in enumerate(groups) for layer in group}
    return {
        "of": [of[layer] for layer in range(len(parts))],
        "orders": [orders[number].tolist() for number in kept],
    }


def _from_json(written: Any, name: str, layers: int, units: int) -> list[Tensor | None]:
    """The order of each layer.

    Raises:
        InvalidValueError: they are not orders of this model's units.
    """
    try:
        of, orders = written[name]["of"], written[name]["orders"]
        sound = len(of) == layers and all(sorted(order) == list(range(units)) for order in orders)
        if sound:
            made = [torch.tensor(order) for order in orders]
            return [None if number is None else made[number] for number in of]
    except (KeyError, TypeError, IndexError):
        pass
    fault = f"`{ORDER_KEY}` must have, as `{name}`, orders of {units} for {layers} layers"
    raise InvalidValueError(what="the configuration", faults=[fault])
