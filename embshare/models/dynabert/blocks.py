"""The layers of a model of the BERT kind, and the matrices in them that can be made narrower.

Letters: H the model's width, n heads of width s, m neurons.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from embshare.errors import InvalidValueError
from embshare.runtime.shared_layers import SharedLayer

__all__ = ["Block", "Part", "blocks", "is_derived", "layer_list", "stored_in"]

KIND = "a model of the BERT kind (transformers' BERT, RoBERTa and those built like them)"


@dataclass(frozen=True)
class Part:
    """The matrices of one layer that are cut together: by heads, or by neurons."""

    inner: tuple[nn.Linear, ...]
    """Matrices cut by rows: query, key and value, or the first of the feed-forward part."""
    outer: nn.Linear
    """The matrix cut by columns, which reads the outputs of the inner ones."""
    count: int
    """Heads ``n``, or neurons ``m``, of the whole layer."""
    unit: int
    """Rows that stay together: ``s`` of a head, or 1 of a neuron."""

    @property
    def layers(self) -> tuple[nn.Linear, ...]:
        """The inner matrices, then the outer one."""
        return (*self.inner, self.outer)

    @property
    def derived(self) -> bool:
        """Whether one of them cannot be stored in another order, so that none of them is."""
        return any(map(is_derived, self.layers))


@dataclass(frozen=True)
class Block:
    """One layer of the encoder."""

    attention: Part
    feed_forward: Part


def is_derived(layer: nn.Module) -> bool:
    """Whether a layer's weight is computed from a table."""
    return isinstance(layer, SharedLayer) and "weight" in layer._embshare_names


def stored_in(layer: nn.Linear) -> Tensor:
    """A tensor of a layer's device and type; asking for a derived weight would derive it."""
    bias: Tensor | None = layer.bias
    return layer.weight if bias is None else bias


def layer_list(model: nn.Module) -> nn.ModuleList:
    """The list of layers, ``encoder.layer``, of a model with or without a head.

    Raises:
        InvalidValueError: the model has none, or its layers attend to another model's states too.
    """
    base = getattr(model, "base_model", model)
    layers = getattr(getattr(base, "encoder", None), "layer", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        raise _unfit(model, "it has no list `encoder.layer`")
    if any(hasattr(layer, "crossattention") for layer in nn.ModuleList.__iter__(layers)):
        raise _unfit(model, "its layers have cross-attention")
    return layers


def blocks(model: nn.Module) -> tuple[Block, ...]:
    """All layers, in order, also those that the present size leaves out.

    Raises:
        InvalidValueError: a layer is not built as BERT's.
    """
    layers = layer_list(model)
    return tuple(_block(model, layer) for layer in layers._modules.values() if layer is not None)


def _block(model: nn.Module, layer: nn.Module) -> Block:
    def linear(place: str) -> nn.Linear:
        try:
            found = layer.get_submodule(place)
        except AttributeError:
            raise _unfit(model, f"a layer has no `{place}`") from None
        if not isinstance(found, nn.Linear):
            kind = f"{type(found).__module__}.{type(found).__qualname__}"
            raise _unfit(model, f"`{place}` is a {kind} and no nn.Linear")
        return found

    inner = tuple(linear(f"attention.self.{name}") for name in ("query", "key", "value"))
    outer = linear("attention.output.dense")
    up, down = linear("intermediate.dense"), linear("output.dense")
    attention = layer.get_submodule("attention.self")
    heads, size = attention.num_attention_heads, attention.attention_head_size
    assert isinstance(heads, int) and isinstance(size, int)
    # Features are numbers of the layer: the shape of a derived weight would derive it.
    return Block(Part(inner, outer, heads, size), Part((up,), down, up.out_features, 1))


def _unfit(model: nn.Module, finding: str) -> InvalidValueError:
    return InvalidValueError(
        what=f"this {type(model).__name__}", faults=[f"it must be {KIND}, but {finding}"]
    )
