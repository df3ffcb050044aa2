"""`sized` and `set_size`: one model, as large as is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from torch import nn

from embshare.errors import InvalidValueError
from embshare.models.dynabert.blocks import Block, blocks, layer_list, require_fit
from embshare.models.dynabert.elastic import ElasticLayers, cut, keep, require_cuttable
from embshare.models.dynabert.sizes import (
    FULL,
    Rounding,
    Size,
    kept_heads,
    kept_layers,
    kept_neurons,
)

__all__ = ["SIZE_KEY", "apply_size", "configs", "read_size", "set_size", "size_of", "sized"]

M = TypeVar("M", bound=nn.Module)

SIZE_KEY: Final = "dynabert_size"
"""Where a model's configuration has the size that it was set to."""


@contextmanager
def sized(
    model: M, *, width: float = 1.0, depth: float = 1.0, rounding: Rounding = "exact"
) -> Iterator[M]:
    """Let a model compute as one of its sub-networks while the context lasts.

    The model keeps all its parameters; those that are left out get no gradient. Contexts nest, and
    at the end the size from before is set again. One model has one size at a time, in all threads.
    Where activation checkpointing runs layers again, call ``backward`` inside of the context.

    Args:
        model: BERT or RoBERTa of transformers, with or without a head; plain or shared.
        width: share of the heads and neurons of each layer that is used: the first ones.
        depth: share of the layers that is used, see `kept_layers`.
        rounding: what is done about shares that do not divide.
    Raises:
        InvalidValueError: the size does not fit the model, or the model is of another kind.
    """
    size, before = Size(width=width, depth=depth, rounding=rounding), size_of(model)
    apply_size(model, size)
    try:
        yield model
    finally:
        apply_size(model, before)


def set_size(
    model: M, *, width: float = 1.0, depth: float = 1.0, rounding: Rounding = "exact"
) -> M:
    """As `sized`, until it is called again; ``save_pretrained`` writes the size down.

    The configuration has it, so `restore` sets it again after ``from_pretrained``. What is saved is
    the whole model; `extract` gives a model that is smaller.

    Returns:
        The same model.
    Raises:
        InvalidValueError: as `sized`.
    """
    size = Size(width=width, depth=depth, rounding=rounding)
    apply_size(model, size)
    for config in configs(model):
        if size.width == size.depth == 1:
            config.__dict__.pop(SIZE_KEY, None)
        else:
            written = {"width": size.width, "depth": size.depth, "rounding": size.rounding}
            setattr(config, SIZE_KEY, written)
    return model


def size_of(model: nn.Module) -> Size:
    """The size that a model computes with now.

    Raises:
        InvalidValueError: the model is of another kind.
    """
    layers = layer_list(model)
    return layers.size if isinstance(layers, ElasticLayers) else FULL


def read_size(model: nn.Module) -> Size | None:
    """The size that a model's configuration asks for.

    Raises:
        InvalidValueError: what stands there is no size.
    """
    found = getattr(getattr(model, "config", None), SIZE_KEY, None)
    if found is None:
        return None
    if not isinstance(found, dict) or not found.keys() <= {"width", "depth", "rounding"}:
        fault = f"`{SIZE_KEY}` must hold `width`, `depth` and `rounding`, but is {found!r:.80}"
        raise InvalidValueError(what="the configuration", faults=[fault])
    return Size(**found)


def apply_size(model: nn.Module, size: Size) -> None:
    """Set a size, and write nothing down.

    Raises:
        InvalidValueError: as `sized`; the model is as it was.
    """
    require_fit(model, size)
    found = blocks(model)
    if size.width < 1:
        require_cuttable(layer for b in found for layer in (*b.attention, *b.feed_forward))
    for block in found:
        _apply_width(block, size.width)
    keep(layer_list(model), kept_layers(len(found), size.depth), size)


def _apply_width(block: Block, width: float) -> None:
    heads = kept_heads(block.heads, width) * block.head_size
    neurons = kept_neurons(block.neurons, block.heads, width)
    for layer in (block.query, block.key, block.value):
        cut(layer, rows=heads)
    cut(block.output, columns=heads)
    cut(block.up, rows=neurons)
    cut(block.down, columns=neurons)


def configs(model: nn.Module) -> list[Any]:
    """The configurations of a model and of its body, which are one as a rule."""
    found = (getattr(part, "config", None) for part in (model, getattr(model, "base_model", model)))
    return list({id(config): config for config in found if config is not None}.values())
