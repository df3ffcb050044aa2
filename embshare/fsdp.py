"""Groups for FSDP2 that a shared model can be sharded by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import Tensor, nn

from embshare.runtime.bank import Bank, require_bank

__all__ = ["fsdp_groups"]


def fsdp_groups(model: nn.Module, *, min_parameters: int = 100_000) -> list[nn.Module]:
    """The modules to call FSDP2's ``fully_shard`` on, in order; the model itself is the last.

        for module in embshare.fsdp_groups(model):
            fully_shard(module)

    Tables and projections are read by layers all over the model, so they belong to the root's
    group: gathered once, before the outermost forward derives from them. A repeated block becomes a
    separate group where no parameter of it is also used elsewhere, and where it stores enough to
    be worth it: a block whose matrices are derived has little more than biases left.

    Args:
        model: as `share_from_embedding` returned it, before it is sharded.
        min_parameters: blocks that store fewer stay in the root's group.
    Returns:
        Entries of module lists (for ``fully_shard`` takes no lists), then the model.
    Raises:
        NotSharedError: the model is dense, or a part of a shared model.
    """
    bank = require_bank(model)
    used = _uses(model)
    for columns in bank.columns:
        used[columns.table()] += 1  # by the bank
    blocks = [block for block in _blocks(model, used) if _stored(block) >= min_parameters]
    return [*blocks, model]


def _uses(module: nn.Module) -> Counter[Tensor]:
    """How many names each parameter has."""
    return Counter(p for _, p in module.named_parameters(remove_duplicate=False))


def _stored(block: nn.Module) -> int:
    return sum(parameter.numel() for parameter in block.parameters())


def _blocks(module: nn.Module, used: Counter[Tensor]) -> Iterator[nn.Module]:
    """Outermost entries of lists, all of whose parameters are used inside of them alone."""
    repeated = isinstance(module, (nn.ModuleList, nn.Sequential))
    for child in module.children():
        if isinstance(child, Bank):
            continue
        own = _uses(child)
        closed = own and all(used[parameter] == number for parameter, number in own.items())
        if repeated and closed and not isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield child
        else:
            yield from _blocks(child, used)
