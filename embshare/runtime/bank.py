"""The bank: the one object that owns what sharing stores besides the table.

It belongs to the model that was shared, under the name ``embshare_bank``, and knows which layers
read which of its slots. What has been derived, and how long it may be used, is in its
`DerivationCache`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from embshare.blocks.columns import Columns
from embshare.config import ShareConfig
from embshare.ops.tracing import passed_over
from embshare.plan.values import SharePlan
from embshare.runtime.derivation_cache import DerivationCache
from embshare.runtime.keys import BankRef
from embshare.runtime.relaxation import Relaxation, needs_relaxation
from embshare.runtime.scales import Scales
from embshare.runtime.shared_layers import derived_names

__all__ = ["Bank", "Reader"]


@dataclass(eq=False)
class Reader:
    """One derived weight and the layers that hold it (several where the model ties it)."""

    slot: int
    places: list[tuple[nn.Module, str]]
    names: int
    """Under which the dense model has it: more than one where it ties the weight."""
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


class Bank(nn.Module):
    """Owns what sharing stores besides the table; registered once, at the model's root.

    Attributes:
        scales: the plan, and its gains as buffers.
        sources: one `Columns` for each source of the plan.
        relaxations: one for each reader where the config asks for learned gains or residuals.
    """

    def __init__(
        self,
        plan: SharePlan,
        sources: Sequence[Columns],
        readers: Sequence[Reader],
    ) -> None:
        super().__init__()
        scales = Scales(plan, sources[0].table())
        self.add_module("scales", scales)
        self.__dict__["scales"] = scales  # past nn.Module's slow look-up
        self.ref = BankRef()
        self.ref.bank = self
        self.refs: WeakSet[BankRef] = WeakSet()
        """Of copies of parts, which read this bank."""
        self.mixed = any(r.like.dtype is not sources[0].dtype() for r in readers)
        """Whether a layer may have another dtype than its table."""
        self.scales: Scales
        self._columns: tuple[Columns, ...]
        self._relaxed: tuple[nn.Module, ...]
        self.sources = nn.ModuleList(sources)
        config: ShareConfig = plan.config
        self.relaxations = nn.ModuleList(
            Relaxation(plan.slots[r.slot], config, r.like)
            for r in readers
            if needs_relaxation(config)
        )
        self.readers = list(readers)
        self.__dict__["_columns"] = tuple(sources)
        self.__dict__["_relaxed"] = tuple(self.relaxations)
        self.cache: DerivationCache
        self.unread: set[int] = set()
        """Readers that no layer holds any more: frozen, or made plain."""
        self.filling = False
        """A loader fills the model by name, and what it draws for derived weights is lost."""
        self.evaluations = 0
        """How many projections were computed; tests count them."""
        self._fresh()

    @property
    def plan(self) -> SharePlan:
        """What it was built from, with gains and spreads as they are now."""
        return self.scales.merged()

    def adopt(self, plan: SharePlan) -> None:
        """Take another plan of the same columns, and its numbers."""
        self.scales.take(plan)
        self._fresh()

    @property
    def columns(self) -> tuple[Columns, ...]:
        """The sources, typed."""
        return self._columns

    def reset(self, generator: torch.Generator | None) -> None:
        """The random start: columns as spread as the table, relaxations that change nothing."""
        for columns in self._columns:
            columns.reset(generator)
        for relaxation in self.relaxations:
            assert isinstance(relaxation, Relaxation)
            relaxation.reset(generator)

    def _fresh(self) -> None:
        self.__dict__["cache"] = DerivationCache(self)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "cache"}
        # Without those of copies of the whole, which have followed their own bank since.
        return kept | {"refs": [ref for ref in self.refs if ref.bank is self]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.refs = WeakSet(state["refs"])
        for made in (self.ref, *self.refs):  # copied with this: what they belong to follows it
            made.bank, made.borrowed = self, False
        self._fresh()

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"{len(self.readers)} weights from {len(self.scales.plan.slots)} slots"

    # ------------------------------------------------------------------ readers

    def read(self, index: int) -> Tensor:
        """The current weight of a reader, wherever it is asked for."""
        return self.cache.read(index)

    def read_all(self) -> dict[int, Tensor]:
        """Every reader's weight, derived anew one by one: what reading a layer's attribute gives.

        A product of other columns may round otherwise.
        """
        return self.cache.read_all()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep derived weights across calls in this block, without comparing; blocks nest."""
        self.cache.keeper.begin()
        try:
            yield
        finally:
            self.cache.keeper.end(drop=True)

    def trains(self) -> bool:
        """Whether derived weights move: what any of them is read from asks for a gradient."""
        return any(t.requires_grad for columns in self._columns for t in columns.trained())

    def forget(self, index: int, layer: nn.Module, name: str) -> None:
        """A layer has a weight of its own from now on."""
        reader = self.readers[index]
        reader.places = [place for place in reader.places if place != (layer, name)]
        if not reader.places:
            self.unread.add(index)

    def remember(self, index: int, layer: nn.Module, name: str) -> None:
        """Undo `forget`."""
        self.readers[index].places.append((layer, name))
        self.unread.discard(index)

    @passed_over
    def check_tables(self, root: nn.Module) -> None:
        """Hold the shared model to having the tables that are read, wrapped or not.

        Raises:
            TableReplacedError: one is gone, or another module stands in its place.
        """
        for source in self._columns:
            source.check_place(root)

    def dtype_of(self, layer: nn.Module) -> torch.dtype:
        """Of a layer's derived weights, if nothing but the table decides it."""
        first = next(iter(derived_names(layer).values()))
        return self._columns[self.scales.plan.slots[self.readers[first].slot].source].dtype()
