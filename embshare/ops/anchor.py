"""The anchor: a fixed table of signs that nothing stores.

Where columns are computed from ``E + a R`` instead of ``E``, a step that changes the table by some
part of its standard deviation changes the columns by ``1 / sqrt(1 + a^2)`` of that part only. A
table may then learn fast, as embeddings want, and the weights that are computed from it slowly, as
layers want.

``R[v, f]`` is the sign number ``v + f`` of one fixed sequence, hence ``V + F`` numbers and not
``V F``; they come from integer arithmetic, which is the same on every machine. Row ``v`` depends
on ``v`` alone, so a vocabulary may grow.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from embshare.ops.tracing import computed_once

__all__ = ["anchored", "signs"]

_PRIME: Final = 2**31 - 1
_ROUNDS: Final = ((1103515245, 12345), (69621, 362437), (40014, 521288629))


def signs(count: int, *, device: torch.device) -> Tensor:
    """The first ``count`` signs of the sequence, ``[count]``, as -1.0 and 1.0 in float32.

    Squares modulo a prime, stirred with the position: each is some remainder of ``2^31 - 1``, and
    its sign says in which half that lies. No product exceeds what 64 bits hold.
    """
    position = torch.arange(1, count + 1, device=device, dtype=torch.int64)
    state = position
    for factor, offset in _ROUNDS:
        state = (state * state + position * factor + offset) % _PRIME
    return (state < _PRIME // 2).float() * 2 - 1


def anchored(table: Tensor, by: float | Tensor) -> Tensor:
    """``table + by * R`` for a table ``[V, F]``; its gradient is the table's."""
    rows, width = table.shape
    once = torch.compiler.is_dynamo_compiling() or _is_eager(table)
    count, device = rows + width - 1, table.device
    first = known_signs(count, device) if once else signs(count, device=device)
    fixed = first.to(table.dtype).unfold(0, width, 1)
    if isinstance(by, Tensor):
        return table + (fixed * by).to(table.dtype)
    return torch.add(table, fixed, alpha=by)


_KNOWN: Final[dict[torch.device, Tensor]] = {}
"""The longest signs that were asked for. They are the same for all models, so no model has them."""


@computed_once
def known_signs(count: int, device: torch.device) -> Tensor:
    """Signs as of `signs`, computed once for each device; not to be written to.

    A compiler would compute the numbers again for each element of ``R``, which takes longer than
    the rest of a small model.
    """
    known = _KNOWN.get(device)
    if known is None or len(known) < count:
        with torch.inference_mode(False), torch.no_grad():
            known = _KNOWN[device] = signs(count, device=device)
    return known[:count]


def _is_eager(table: Tensor) -> bool:
    """Whether operations on this table are computed, with nobody who records or pretends them."""
    return (
        type(table) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._get_tracing_state() is None
        and not torch._C._are_functorch_transforms_active()
    )
