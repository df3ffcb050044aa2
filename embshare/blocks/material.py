"""`Material`: what the blocks of some slots are made of, whatever the method.

Each kind is a module of the bank, in a file of this package: `Columns` of a table (EPS, VEPS), and
`Own` parameters. `embshare.blocks.making` says which a plan has; nobody else asks for a method.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from embshare.ops.derive import Scaled
from embshare.plan.values import SharePlan

__all__ = ["Keep", "Material"]

Keep = Callable[[Any, tuple[Tensor, ...]], None]
"""Called with the graph node of a derivation and its results, without their graph."""


class Material(Protocol):
    """What the blocks of some slots are made of."""

    computed: ClassVar[bool]
    """Blocks are computed, once in an outermost call; else they are read as they are stored."""

    def recipe(
        self,
        plan: SharePlan,
        slots: Sequence[int],
        gains: Sequence[float],
        deviations: Sequence[float],
    ) -> Any:
        """Work out how some slots are read, once for all calls with equal numbers.

        Args:
            plan: of the bank.
            slots: numbers of slots that are made of this, in the order of the results.
            gains: one for each slot of the plan.
            deviations: standard deviations of the plan's sources.
        """
        ...

    def recipe_key(self) -> object:
        """What a recipe depends on besides the plan and its numbers."""
        ...

    def make(
        self,
        recipe: Any,
        *,
        scales: Scaled | None = None,
        dtype: torch.dtype | None = None,
        ready: Sequence[Tensor] | None = None,
        keep: Keep | None = None,
    ) -> tuple[Tensor, ...]:
        """Blocks of a recipe's slots as their layers see them, with gains, and with their graph.

        Args:
            recipe: from `recipe`.
            scales: gains as tensors, for tracers; None takes the recipe's numbers.
            dtype: of the results; None is `dtype` of each.
            ready: results of an earlier call with equal inputs; only where blocks are computed.
            keep: only where blocks are computed.
        """
        ...

    def reset(self, weights: Mapping[int, Tensor], generator: torch.Generator | None) -> None:
        """Initialise at random.

        Args:
            weights: of each slot, what the first of its layers had.
            generator: None is torch's global one.
        """
        ...

    def trained(self, slot: int | None = None) -> Iterator[Tensor]:
        """What weights move with, as far as an optimizer may hold it.

        Args:
            slot: whose weights; None is of all.
        """
        ...

    def rest(self, still: Collection[int], moving: Collection[int]) -> Collection[int]:
        """Freeze what nothing but frozen slots is made of.

        Args:
            still: numbers of slots all of whose weights are frozen.
            moving: the others that are made of this.
        Returns:
            Those of ``still`` whose blocks will not move any more.
        """
        ...

    def dtype(self, slot: int) -> torch.dtype:
        """Dtype that a slot's block is stored in, or computed in."""
        ...

    def device(self) -> torch.device:
        """Where blocks are read."""
        ...

    def check_values(self, around: Iterable[Tensor]) -> None:
        """Hold what is on meta to being among others on meta.

        Raises:
            OffloadedError: one of those ``around`` has values.
        """
        ...

    def fingerprint(self) -> tuple[object, ...]:
        """Changes with every change that torch lets one see."""
        ...

    def memory(self) -> list[Tensor] | None:
        """The bytes that blocks are computed from, each as of `embshare.ops.checksum.plain_memory`;
        None where it is quicker to make blocks again than to compare them."""
        ...
