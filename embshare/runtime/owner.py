"""What a `DerivationCache` reads of the bank that owns it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from embshare.blocks.columns import Columns
from embshare.blocks.material import Material
from embshare.runtime.scales import Scales

__all__ = ["Owner", "Reader", "first_weights"]


@dataclass(eq=False)
class Reader:
    """One derived weight and the layers that hold it (several where the model ties it)."""

    slot: int
    places: list[tuple[nn.Module, str]]
    names: int
    """Number of names in the dense model: more than one where it ties the weight."""
    requires_grad: bool
    cast: bool
    """Once per call under autocast; else autocast casts where it is used."""

    @property
    def like(self) -> Tensor:
        """The stored weight, while there is one."""
        layer, name = self.places[0]
        weight = layer._parameters[name]
        assert weight is not None
        return weight.detach()


def first_weights(readers: Iterable[Reader]) -> dict[int, Tensor]:
    """The stored weight of each slot's first reader, in the order of slots."""
    found: dict[int, Tensor] = {}
    for reader in readers:
        if reader.slot not in found:
            found[reader.slot] = reader.like
    return found


class Owner(Protocol):
    """A bank, as far as deriving goes: what is read, who reads it, and by which numbers."""

    scales: Scales
    materials: tuple[Material, ...]
    """What the blocks of slots are made of, by `Slot.material`."""
    columns: tuple[Columns, ...]
    """Those of them that read tables: one for each source of the plan."""
    relaxed: tuple[nn.Module, ...]
    """One for each reader, or none at all."""
    readers: list[Reader]
    unread: set[int]
    """Readers that no layer holds any more."""
    mixed: bool
    """Whether a layer may have another dtype than its table."""
    filling: bool
    """Whether a loader is filling the model by name."""
    evaluations: int
    """How many projections were computed."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All that the bank stores."""
        ...

    def material(self, slot: int) -> Material:
        """What a slot's block is made of."""
        ...

    def check_tables(self, root: nn.Module) -> None:
        """Hold the shared model to having the tables that are read."""
        ...
