"""Derived weights between calls, and how they are known to be current.

Three questions, the quick ones first. *Did somebody write into a weight?* Versions of the weights
themselves. *Did a source change as torch sees it?* Versions, memory and optimizer steps
(`embshare.ops.versions`). *Did it change at all?* A checksum of every byte that weights were
computed from (`embshare.ops.checksum`). Inside of `embshare.cached` the last is not asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import torch
from torch import Tensor

from embshare._warnings import warn_stale_cache, warn_unused_cache
from embshare.blocks.resident import stamp
from embshare.ops.checksum import Checksum, plain_memory
from embshare.ops.tracing import runs_now
from embshare.runtime.owner import Owner

__all__ = ["Dtype", "Keeper", "Kept", "Scope", "in_backward"]

Dtype = torch.dtype | None
"""Dtype of derived weights: None is the table's own, else what autocast asks for."""

KEEPING = Lock()
"""Threads that begin and end blocks are counted one by one; nothing waits inside."""
Tensors = dict[tuple[int, Dtype], Tensor]


# Why: docs/explanation/decisions/kept-between-calls.md
class Kept:
    """Slots and weights that were derived from one state of their sources.

    Attributes:
        derived: what a `Scope` has, by the readers that a call begins with. A product of other
            columns may round otherwise, so what a call computes depends on no call before it.
    """

    def __init__(self, bank: Owner) -> None:
        """Note the state that `bank`'s sources are in, before anything is derived from it."""
        self.derived: dict[Sequence[int], tuple[Tensors, Tensors]] = defaultdict(lambda: ({}, {}))
        self._bank = bank
        self._versions = _versions(bank)
        memory = _memory(bank)
        self._checksum = None if memory is None else Checksum(memory)
        self._made: dict[int, tuple[Tensor, int, int]] = {}

    @property
    def checked(self) -> bool:
        """Whether `is_same` can be asked: else they are for `embshare.cached` alone."""
        return self._checksum is not None

    def looks_same(self) -> bool:
        """Whether torch shows no change of the sources."""
        return self._versions == _versions(self._bank)

    def is_same(self) -> bool:
        """Whether the sources hold what they held, to the last bit."""
        return self.looks_same() and (self._checksum is None or self._checksum.holds())

    def is_current(self) -> bool:
        """Whether the weights are what would be derived now."""
        return self.is_whole() and self.is_same()

    def note(self, weight: Tensor) -> None:
        """Take note of a weight before anyone can write into it."""
        self._made.setdefault(id(weight), (weight, weight._version, weight.data_ptr()))

    def is_whole(self) -> bool:
        """Whether nobody wrote into a weight: a forward in place, or the owner of an output."""
        return all(
            weight._version == version and weight.data_ptr() == pointer
            for weight, version, pointer in list(self._made.values())  # other threads add
        )


@dataclass(eq=False)
class Scope:
    """What one thread has derived since its outermost call began."""

    kind: str
    dtype: Dtype
    slots: Tensors = field(default_factory=dict)
    weights: Tensors = field(default_factory=dict)
    kept: Kept | None = None
    """Whose dictionaries these are, where they outlive the call."""
    grown: bool = False
    """Whether weights were added since the sources were looked at."""


def in_backward() -> bool:
    """Whether this thread is inside of an eager backward pass; a compiler traces neither."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


class Keeper:
    """Decides what a call may use of the calls before it.

    Attributes:
        kept: by the last call, if it may be used again.
        worth: weights are computed; else a call has them from where they are stored.
        blocks: of `embshare.cached`, open now.
        unused: a graph that was compiled around the model derived what such a block has kept.
    """

    def __init__(self, bank: Owner) -> None:
        self.bank = bank
        self.kept: Kept | None = None
        self.worth = bool(bank.relaxed) or any(m.computed for m in bank.materials)
        self.blocks = 0
        self.unused = False

    def begin(self) -> None:
        """Begin a block in which a look at versions is enough; blocks nest."""
        with KEEPING:
            kept = self.kept
            if kept is not None and not self.blocks and not (runs_now() and kept.is_current()):
                self.kept = None
            self.blocks += 1

    def end(self, *, drop: bool = False) -> None:
        """End what `begin` began.

        Args:
            drop: the memory too, with the outermost block, or where there is none.
        """
        with KEEPING:
            self.blocks = max(0, self.blocks - 1)
            kept = self.kept
            if not self.blocks and (drop or (kept is not None and not kept.checked)):
                self.kept = None
            unused, self.unused = self.unused, self.unused and self.blocks > 0
        if unused and not self.blocks:
            warn_unused_cache()

    def for_call(self) -> Kept | None:
        """What an outermost call may use, and adds to."""
        if self.blocks:
            return self._for_block()
        if not self.worth or torch.is_grad_enabled() or in_backward() or not runs_now():
            self.kept = None  # training: the memory is wanted, and the next step changes it all
            return None
        kept = self.kept
        if kept is None or not kept.is_current():
            self.kept = None  # before there is another: not both at a time
            kept = Kept(self.bank)
            kept = self.kept = kept if kept.checked else None
        return kept

    def for_read(self) -> Kept | None:
        """What a weight that is read outside of calls may be taken from."""
        return self._for_block() if self.blocks else None

    def _for_block(self) -> Kept | None:
        """Kept weights in `embshare.cached`, whose owner answers for what torch does not show."""
        if not self.worth or not runs_now():
            return None
        kept = self.kept
        if kept is not None and not kept.looks_same():
            warn_stale_cache()
            kept = None
        if kept is None or not kept.is_whole():
            self.kept = kept = Kept(self.bank)
        return kept

    def settle(self, scope: Scope) -> None:
        """What was derived in the middle of a call is kept if the sources are as at its begin."""
        kept = scope.kept
        if scope.grown and kept is not None and not kept.is_same() and self.kept is kept:
            self.kept = None


def _versions(bank: Owner) -> list[object]:
    found: list[object] = [bank.scales.values()]
    for material in bank.materials:
        found += material.fingerprint()
    for relaxation in bank.relaxed:
        for name, parameter in relaxation._parameters.items():
            if parameter is not None:
                found += stamp(relaxation, name, parameter)
    return found


def _memory(bank: Owner) -> list[Tensor] | None:
    """The bytes that weights are computed from; None where it is quicker to derive again.

    So it is on other devices, where a call is launched about as fast as it could be checked; and
    where what blocks are made of says so.
    """
    whole: list[Tensor] = []
    for memory in (
        *(material.memory() for material in bank.materials),
        *(plain_memory(relaxation.parameters()) for relaxation in bank.relaxed),
    ):
        if memory is None:
            return None
        whole += memory
    return whole
