"""Whether tensors hold the bytes that they held: a random checksum at nearly the speed of reading.

Bytes are cut into blocks of 2 KiB and read as signed numbers, ``x [R, K]``. What is kept of them
is ``x @ c`` with ``c [K, 16]`` of random numbers in -64 ... 63: 64 bytes of a block.

*It is exact.* Sums of fewer than 2**18 products of 8 and 7 bits fit into 32 bits, so equal bytes
always give equal sums. ``c`` has 7 bits because kernels without dot products of bytes add pairs of
products in 16 bits, which pairs of 8 x 8 bits overflow.

*What it misses.* Take a block with another byte, by ``d != 0``. Whatever the other 2,047 bytes
do, a sum is the same only if ``d`` times its random number is what they ask for, which at most one
of 128 equally likely numbers is. Each of the 16 sums draws its own: a change is missed with a
probability of at most 128**-16 = 2**-112, however large, small or regular it is, as long as whoever
writes does not know ``c``. It is drawn for each `Checksum`, from a separate generator, and never
shown. What is shorter than a block is compared byte by byte.

The product is one private operation of torch, `torch._int_mm`, which takes about twice as
long as reading the memory where the processor has instructions for it (AMX or VNNI). Elsewhere a
copy of the bytes is kept and compared: exact as well, three times as slow, and as large as the
tensors.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

import torch
from torch import Tensor, nn

__all__ = ["Checksum", "has_fast_sums", "plain_memory"]

BLOCK: Final = 1 << 11
"""Quicker than 1, 4 and 16 KiB on a processor with AMX, by a tenth to a quarter."""
SUMS: Final = 16
LARGE: Final = 1 << 18
"""Bytes from which a product is quicker than a comparison with a copy: it takes 30 us at least."""


def plain_memory(tensors: Iterable[Tensor]) -> list[Tensor] | None:
    """The memory of parameters, ``[n]`` int8 each; None where one has no plain memory."""
    found = [_bytes_of(t) if type(t) is nn.Parameter else None for t in tensors]
    whole = [memory for memory in found if memory is not None]
    return whole if len(whole) == len(found) else None


def _bytes_of(tensor: Tensor) -> Tensor | None:
    """A tensor's memory; None where that is not contiguous CPU memory."""
    plain = tensor.device.type == "cpu" and tensor.layout is torch.strided
    if not plain or not tensor.is_contiguous() or tensor.is_neg() or tensor.is_conj():
        return None
    return tensor.detach().view(-1).view(torch.int8)


@cache
def has_fast_sums() -> bool:
    """Whether this torch and this processor multiply bytes quickly, and without overflow."""
    tests = ("_is_amx_tile_supported", "_is_vnni_supported")
    if not hasattr(torch, "_int_mm") or not torch.backends.mkldnn.is_available():
        return False
    if not any(getattr(torch.cpu, test, bool)() for test in tests):
        return False
    rows = torch.tensor([[127, 127], [-128, -128], [127, -128]], dtype=torch.int8, device="cpu")
    rows = rows.repeat(1, BLOCK // 2)
    factors = _factors().clone()
    factors[:, 0], factors[:, 1] = 63, -64
    try:
        return torch.equal(torch._int_mm(rows, factors).long(), rows.long() @ factors.long())
    except RuntimeError:
        return False


def _factors() -> Tensor:
    """``[BLOCK, SUMS]`` int8, uniform in -64 ... 63; the global generator is not touched."""
    generator = torch.Generator(device="cpu")
    generator.seed()
    words = torch.empty(BLOCK * SUMS // 8, dtype=torch.int64, device="cpu")
    words.random_(-(2**63), None, generator=generator)  # all 64 bits are drawn
    return (words.view(torch.int8) >> 1).view(SUMS, BLOCK).t()


class Checksum:
    """What some tensors held when it was made.

    It keeps views of their memory, so it may be asked only as long as they have that memory.
    """

    def __init__(self, memory: Iterable[Tensor]) -> None:
        """Note what ``memory`` holds: tensors from `plain_memory`."""
        self._blocks: list[Tensor] = []
        self._rest: list[Tensor] = []
        fast = has_fast_sums()
        for piece in memory:
            aligned = fast or piece.data_ptr() % 8 == 0
            size = piece.numel() // BLOCK * BLOCK if piece.numel() >= LARGE and aligned else 0
            if size:
                self._blocks.append(piece[:size].view(-1, BLOCK))
            self._rest.append(piece[size:])
        padding = -sum(map(len, self._rest)) % 8
        self._rest.append(torch.zeros(padding, dtype=torch.int8, device="cpu"))
        self._factors = _factors() if fast and self._blocks else None
        self._sums = [self._sum(block) for block in self._blocks]
        if self._factors is None:
            self._sums = [copied.clone() for copied in self._sums]
        self._copy = self._joined()

    def holds(self) -> bool:
        """Whether they hold the same bytes now."""
        return torch.equal(self._joined(), self._copy) and all(
            torch.equal(self._sum(block), kept)
            for block, kept in zip(self._blocks, self._sums, strict=True)
        )

    def _sum(self, block: Tensor) -> Tensor:
        """Sums viewed as int64, which torch compares several times as fast as bytes."""
        summed = block if self._factors is None else torch._int_mm(block, self._factors)
        return summed.view(torch.int64)

    def _joined(self) -> Tensor:
        return torch.cat(self._rest).view(torch.int64)
