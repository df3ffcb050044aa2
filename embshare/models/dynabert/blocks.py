"""Where a model of the BERT kind has its layers, and what in them can be made narrower.

Letters: H the model's width, n heads of width s, m neurons.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from embshare.errors import InvalidValueError
from embshare.models.dynabert.sizes import Size

__all__ = ["Block", "blocks", "layer_list", "require_fit"]

KIND = "a model of the BERT kind (transformers' BERT, RoBERTa and those built like them)"


@dataclass(frozen=True)
class Block:
    """The six Linear layers of one layer, and how they are divided."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    """Of attention: ``[H, n s]``."""
    up: nn.Linear
    down: nn.Linear
    heads: int
    """``n`` of the whole layer."""
    head_size: int

    @property
    def neurons(self) -> int:
        """``m`` of the whole layer."""
        return self.up.out_features  # not of the weight: asking for a derived one derives it

    @property
    def attention(self) -> tuple[nn.Linear, ...]:
        """What is cut by heads: rows of the first three, columns of the last."""
        return self.query, self.key, self.value, self.output

    @property
    def feed_forward(self) -> tuple[nn.Linear, ...]:
        """What is cut by neurons: rows of the first, columns of the last."""
        return self.up, self.down


def layer_list(model: nn.Module) -> nn.ModuleList:
    """The list of layers, ``encoder.layer``, of a model with or without a head.

    Raises:
        InvalidValueError: it has none, or its layers look at another model's states too.
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


def require_fit(model: nn.Module, size: Size) -> None:
    """Refuse a size that this model does not divide into.

    Raises:
        InvalidValueError: as `Size.require_fit`, or the model is of another kind.
    """
    found = blocks(model)
    for block in {(b.heads, b.neurons): b for b in found}.values():
        size.require_fit(heads=block.heads, neurons=block.neurons, layers=len(found))


def _block(model: nn.Module, layer: nn.Module) -> Block:
    places = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "output": "attention.output.dense",
        "up": "intermediate.dense",
        "down": "output.dense",
    }
    found: dict[str, nn.Linear] = {}
    for name, place in places.items():
        try:
            part = layer.get_submodule(place)
        except AttributeError:
            raise _unfit(model, f"a layer has no `{place}`") from None
        if not isinstance(part, nn.Linear):
            raise _unfit(model, f"`{place}` is a {_name(type(part))} and no nn.Linear")
        found[name] = part
    attention = layer.get_submodule("attention.self")
    heads, size = attention.num_attention_heads, attention.attention_head_size
    assert isinstance(heads, int) and isinstance(size, int)
    return Block(**found, heads=heads, head_size=size)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _unfit(model: nn.Module, finding: str) -> InvalidValueError:
    return InvalidValueError(
        what=f"this {type(model).__name__}", faults=[f"it must be {KIND}, but {finding}"]
    )
