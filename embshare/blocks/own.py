"""Blocks that are ordinary parameters: tied layers, as of ALBERT and Universal Transformers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from embshare.blocks.material import Keep
from embshare.blocks.resident import device_of, require_values, resident, stamp
from embshare.ops.autocast import without_autocast
from embshare.ops.checksum import plain_memory
from embshare.ops.derive import Scaled
from embshare.plan.values import SharePlan

__all__ = ["Own"]

Recipe = tuple[tuple[int, float], ...]
"""Numbers of slots, and the gain of each."""


class Own(nn.Module):
    """One parameter for each slot, under the slot's number, in the layout of its layers' weights.

    A layer is given the parameter itself: nothing is computed, copied or cut, so a step costs what
    it costs with layers that hold one parameter.
    """

    computed: ClassVar[bool] = False

    def __init__(self, likes: Mapping[int, Tensor]) -> None:
        """Allocate.

        Args:
            likes: of each slot, a weight of its shape, dtype and device.
        """
        super().__init__()
        for slot, like in likes.items():
            empty = torch.empty_like(like, memory_format=torch.contiguous_format)
            self.register_parameter(str(slot), nn.Parameter(empty))

    def block(self, slot: int) -> nn.Parameter:
        """The parameter of a slot."""
        found: nn.Parameter = getattr(self, str(slot))
        return found

    def recipe(
        self,
        plan: SharePlan,
        slots: Sequence[int],
        gains: Sequence[float],
        deviations: Sequence[float],
    ) -> Recipe:
        """Slots and their gains."""
        return tuple((slot, gains[slot]) for slot in slots)

    def recipe_key(self) -> None:
        """Nothing."""

    def make(
        self,
        recipe: Recipe,
        *,
        scales: Scaled | None = None,
        dtype: torch.dtype | None = None,
        ready: Sequence[Tensor] | None = None,
        keep: Keep | None = None,
    ) -> tuple[Tensor, ...]:
        """The parameters themselves, but for a gain that is not 1 or a cast.

        Raises:
            OffloadedError: only some of them have values.
        """
        blocks: list[Tensor] = [resident(self, str(slot), self.block(slot)) for slot, _ in recipe]
        if any(block.device.type == "meta" for block in blocks):
            self.check_values(())
        for place, (_, gain) in enumerate(recipe):
            block = blocks[place]
            if gain == 1.0:  # as it is planned; cast for all layers at once
                if dtype is not None and dtype is not block.dtype:
                    with torch.enable_grad(), without_autocast(block.device.type):
                        blocks[place] = block.to(dtype)
                continue
            with torch.enable_grad(), without_autocast(block.device.type):
                scaled = block * (gain if scales is None else scales[0][place])
                blocks[place] = scaled.to(dtype or block.dtype)
        return tuple(blocks)

    @torch.no_grad()
    def reset(self, weights: Mapping[int, Tensor], generator: torch.Generator | None) -> None:
        """Begin as the first layer of each slot, which its model has initialised as it wants."""
        self.start_at(weights)

    @torch.no_grad()
    def start_at(self, blocks: Mapping[int, Tensor]) -> None:
        """Begin with these values.

        Args:
            blocks: number of a slot -> its block.
        """
        for slot, block in blocks.items():
            self.block(slot).copy_(block)

    def trained(self, slot: int | None = None) -> Iterator[Tensor]:
        """The parameter of a slot, or all of them."""
        yield from self.parameters() if slot is None else (self.block(slot),)

    def rest(self, still: Collection[int], moving: Collection[int]) -> Collection[int]:
        """Freeze the parameters of frozen slots: no other slot reads them."""
        for slot in still:
            self.block(slot).requires_grad_(False)
        return still

    def dtype(self, slot: int) -> torch.dtype:
        """Dtype of a slot's parameter."""
        return self.block(slot).dtype

    def device(self) -> torch.device:
        """Device of the first parameter, or where it comes from being offloaded."""
        name, first = next(self.named_parameters())
        return device_of(self, name, first)

    def check_values(self, around: Iterable[Tensor]) -> None:
        """Hold parameters on meta to being among others on meta.

        Raises:
            OffloadedError: one of those ``around``, or of the others here, has values.
        """
        found = [resident(self, name, block) for name, block in self.named_parameters()]
        name = next((str(n) for n, block in enumerate(found) if block.is_meta), "")
        require_values(f"embshare_bank.blocks.{name}", found, around)

    def fingerprint(self) -> tuple[object, ...]:
        """Changes with every change of a parameter that torch lets one see."""
        return tuple(
            part for name, block in self.named_parameters() for part in stamp(self, name, block)
        )

    def memory(self) -> list[Tensor] | None:
        """The bytes of all parameters, where they are plain memory."""
        return plain_memory(self.parameters())
