"""The bank: the one object that owns what sharing stores besides the table.

It belongs to the model that was shared, under the name ``embshare_bank``, and knows which layers
read which of its slots. What has been derived, and how long it may be used, is in its
`DerivationCache`.

Modules reach their bank through a `BankRef`, which decides what a copy reads. A copy of the whole
model holds a copy of the bank too, and follows its own table. A copy of a part does not: it reads
the original's bank, so that no bank exists that no model registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakSet

import torch
from torch import Tensor, nn

from embshare._keys import KEY, ROOT
from embshare._warnings import notify
from embshare.blocks.columns import Columns
from embshare.blocks.material import Material
from embshare.config import ShareConfig
from embshare.errors import DerivedWeightError, NotSharedError, PartCopyWarning
from embshare.ops.tracing import passed_over
from embshare.plan.values import SharePlan
from embshare.runtime.derivation_cache import DerivationCache
from embshare.runtime.owner import Reader, first_weights
from embshare.runtime.relaxation import Relaxation, needs_relaxation
from embshare.runtime.scales import Scales

__all__ = [
    "BLOCKS",
    "RELAXATIONS",
    "Bank",
    "BankRef",
    "bank_of",
    "banks_of",
    "require_bank",
    "roots_of",
]

BLOCKS: Final = "blocks"
"""Name in the bank of what stores blocks of slots, under the numbers of these."""
RELAXATIONS: Final = "relaxations"
"""Name in the bank of gains and residuals, under the numbers of readers."""


# Why: docs/explanation/decisions/copies-of-parts.md
class BankRef:
    """How modules reach their bank: one object for all modules of a model.

    Attributes:
        bank: None in a part that was unpickled without the model that it belongs to.
        borrowed: this belongs to a copy of a part, which has not been called yet.
    """

    __slots__ = ("__weakref__", "bank", "borrowed")

    def __init__(self) -> None:
        self.bank: Bank | None = None
        self.borrowed = False

    def get(self) -> Bank:
        """The bank.

        Raises:
            DerivedWeightError: this part was pickled without its model.
        """
        bank = self.bank
        if bank is None:
            raise DerivedWeightError(
                "this is a part of a shared model that was pickled (or sent to a process) without "
                "the table that its weights are derived from. Pickle the whole model, or "
                "materialize the part first: embshare.materialize(part)."
            )
        if self.borrowed:
            self.borrowed = False
            notify(
                "a copy of a part of a shared model reads the original's table: its derived "
                "weights follow the original and are not trained or averaged on their own. Copy "
                "the whole model, or materialize the copy: embshare.materialize(part).",
                PartCopyWarning,
            )
        return bank

    def __deepcopy__(self, memo: dict[int, Any]) -> BankRef:
        # Where the bank is copied too, now or later, `Bank.__setstate__` has the copy take over.
        made = BankRef()
        made.bank, made.borrowed = self.bank, self.bank is not None
        if self.bank is not None:
            self.bank.refs.add(made)
        return made

    def __reduce__(self) -> tuple[type[BankRef], tuple[()]]:
        return BankRef, ()  # the bank, where it is pickled too, finds this by identity


class Bank(nn.Module):
    """Owns what sharing stores besides the table; registered once, at the model's root.

    Attributes:
        scales: the plan, and its gains as buffers.
        sources: one `Columns` for each source of the plan.
        blocks: where slots store their blocks themselves.
        relaxations: one for each reader where the config asks for learned gains or residuals.
        materials: what blocks are made of, whatever it is; sources or blocks.
        columns, relaxed: sources and relaxations past nn.Module's slow look-up.
    """

    def __init__(
        self,
        plan: SharePlan,
        materials: Sequence[Material],
        readers: Sequence[Reader],
    ) -> None:
        super().__init__()
        scales = Scales(plan, next(materials[0].trained()))
        self.add_module("scales", scales)
        self.__dict__["scales"] = scales  # past nn.Module's slow look-up
        self.ref = BankRef()
        self.ref.bank = self
        self.refs: WeakSet[BankRef] = WeakSet()
        """References of copies of parts, which read this bank."""
        self.scales: Scales
        self.materials: tuple[Material, ...]
        self.columns: tuple[Columns, ...]
        self.relaxed: tuple[nn.Module, ...]
        self.__dict__["materials"] = tuple(materials)
        self.__dict__["columns"] = tuple(m for m in materials if isinstance(m, Columns))
        self.sources = nn.ModuleList(self.columns)
        for material in materials:
            if not isinstance(material, Columns):
                assert isinstance(material, nn.Module)
                self.add_module(BLOCKS, material)
        self.mixed = any(r.like.dtype is not self.material(r.slot).dtype(r.slot) for r in readers)
        """Whether a layer may have another dtype than what it reads."""
        config: ShareConfig = plan.config
        self.relaxations = nn.ModuleList(
            Relaxation(plan.slots[r.slot], config, r.like)
            for r in readers
            if needs_relaxation(config)
        )
        self.readers = list(readers)
        self.__dict__["relaxed"] = tuple(self.relaxations)
        self.cache: DerivationCache
        self.unread: set[int] = set()
        """Readers that no layer holds any more: frozen, or materialized."""
        self.filling = False
        """A loader fills the model by name, and what it draws for derived weights is lost."""
        self.evaluations = 0
        """How many projections were computed; tests count them."""
        self._fresh()

    @property
    def plan(self) -> SharePlan:
        """Plan that it was built from, with gains and standard deviations as they are now."""
        return self.scales.merged()

    def material(self, slot: int) -> Material:
        """What a slot's block is made of."""
        return self.materials[self.scales.plan.slots[slot].material]

    def adopt(self, plan: SharePlan) -> None:
        """Take another plan of the same columns, and its numbers."""
        self.scales.take(plan)
        self._fresh()

    def reset(self, generator: torch.Generator | None) -> None:
        """Initialise at random: blocks deviate as they are planned to, relaxations change nothing.

        Its readers still store what they had before.
        """
        for material in self.materials:
            material.reset(first_weights(self.readers), generator)
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
        """Every reader's weight, derived one by one: what reading a layer's attribute gives.

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
        return any(t.requires_grad for t in self.trained())

    def trained(self) -> Iterator[Tensor]:
        """All that blocks are made of and an optimizer may hold, tables included."""
        for material in self.materials:
            yield from material.trained()

    def forget(self, index: int, layer: nn.Module, name: str) -> None:
        """Note that a layer stores a weight from now on."""
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
            TableReplacedError: one is gone, or another module is in its place.
        """
        for source in self.columns:
            source.check_place(root)


def roots_of(model: nn.Module) -> Iterator[tuple[str, nn.Module, Bank]]:
    """Every shared model in this one, itself included: its name here, itself, and its bank."""
    for name, module in model.named_modules():
        ref: BankRef | None = module.__dict__.get(ROOT)
        if ref is not None and ref.bank is not None:
            yield name, module, ref.bank


def banks_of(model: nn.Module) -> list[Bank]:
    """The banks of all shared models in this one; of a part of one, the bank that it reads."""
    found = list(dict.fromkeys(bank for _, _, bank in roots_of(model)))
    return found or [bank for bank in [bank_of(model)] if bank is not None]


def bank_of(model: nn.Module) -> Bank | None:
    """The first bank that any module of this model reads from, also when it is wrapped."""
    for module in model.modules():
        ref: BankRef | None = module.__dict__.get(KEY)
        if ref is not None and ref.bank is not None:
            return ref.bank
    return None


def require_bank(model: nn.Module) -> Bank:
    """The bank of a shared model, the first one where there are several.

    Raises:
        NotSharedError: the model is dense, or a part of a shared model without its bank.
    """
    bank = bank_of(model)
    if bank is None or all(module is not bank for module in model.modules()):
        raise NotSharedError(model=type(model).__name__)
    return bank
