"""Which layers have to be cut alike, because they read one weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from embshare._keys import KEY
from embshare.models.dynabert.blocks import Block
from embshare.runtime.shared_layers import INDEX, SharedLayer

__all__ = ["Part", "attention_of", "feed_forward_of", "is_derived", "stored_in", "tied_groups"]


@dataclass(frozen=True)
class Part:
    """The matrices of one layer that are cut together."""

    inner: tuple[nn.Linear, ...]
    """Cut by rows: query, key and value, or the first of the feed-forward part."""
    outer: nn.Linear
    """Cut by columns: what reads those rows' outputs."""
    unit: int
    """Rows that stay together: a head's, or one neuron's."""

    @property
    def layers(self) -> tuple[nn.Linear, ...]:
        """All of them."""
        return (*self.inner, self.outer)

    @property
    def derived(self) -> bool:
        """Whether one of them cannot be stored in another order, so that none of them is."""
        return any(map(is_derived, self.layers))


def attention_of(blocks: Iterable[Block]) -> list[Part]:
    """The attention of each layer."""
    return [Part((b.query, b.key, b.value), b.output, b.head_size) for b in blocks]


def feed_forward_of(blocks: Iterable[Block]) -> list[Part]:
    """The feed-forward part of each layer."""
    return [Part((b.up,), b.down, 1) for b in blocks]


def is_derived(layer: nn.Module) -> bool:
    """Whether a layer's weight is computed from a table."""
    return isinstance(layer, SharedLayer) and "weight" in layer._embshare_names


def stored_in(layer: nn.Linear) -> Tensor:
    """A tensor of a layer's device and type; asking for a derived weight would derive it."""
    bias: Tensor | None = layer.bias
    return layer.weight if bias is None else bias


def tied_groups(parts: Sequence[Part]) -> tuple[tuple[int, ...], ...]:
    """Layers whose parts read a weight in common, directly or through others.

    Two layers that tie but one of four matrices are cut alike in all of them: heads and neurons
    reach over the matrices of a part.

    Returns:
        Numbers of layers, ascending in each group; groups by their first.
    """
    leader = list(range(len(parts)))

    def find(index: int) -> int:
        while leader[index] != index:
            index = leader[index]
        return index

    first_reader: dict[tuple[str, int, int], int] = {}
    for index, part in enumerate(parts):
        for layer in part.layers:
            other = first_reader.setdefault(_identity(layer), index)
            left, right = sorted((find(other), find(index)))
            leader[right] = left
    groups: dict[int, list[int]] = {}
    for index in range(len(parts)):
        groups.setdefault(find(index), []).append(index)
    return tuple(map(tuple, groups.values()))


def _identity(layer: nn.Module) -> tuple[str, int, int]:
    """Equal for layers that read one weight: one slot of one bank, or one parameter."""
    if is_derived(layer):
        bank = layer.__dict__[KEY].get()
        return "slot", id(bank), bank.readers[layer.__dict__[INDEX]["weight"]].slot
    return "parameter", id(layer._parameters["weight"]), 0
