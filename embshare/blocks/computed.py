"""Tables that their module computes itself: pruned, parametrized, or normed by a hook.

Such a module has no parameter under the table's name. `torch.nn.utils.prune` and the older weight
norms put the tensor of the module's last call into a plain attribute: its graph is gone with that
call's backward, and an optimizer's step does not reach it. So the table is computed here from the
tensors that decide it, whenever weights are derived; and those tensors tell whether it changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

__all__ = ["computed", "made_by", "makers"]


def computed(owner: nn.Module, leaf: str) -> Tensor:
    """The table of a module that has no parameter of this name, as it is now, with its graph."""
    with torch.enable_grad():  # as weights have, also those derived without one
        compute = _recipe(owner, leaf)
        table: Tensor = getattr(owner, leaf) if compute is None else compute()
        return table


def _recipe(owner: nn.Module, leaf: str) -> Callable[[], Tensor] | None:
    """What the hook computes before the module's calls; None where reading the name computes it."""
    for hook in owner._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == leaf:
            return lambda hook=hook: hook.apply_mask(owner)  # type: ignore[misc]
        if isinstance(hook, WeightNorm) and hook.name == leaf:
            return lambda hook=hook: hook.compute_weight(owner)  # type: ignore[misc]
        if isinstance(hook, SpectralNorm) and hook.name == leaf:
            return lambda hook=hook: _spectral(hook, owner)  # type: ignore[misc]
    return None


def _spectral(hook: SpectralNorm, owner: nn.Module) -> Tensor:
    """Normalise without a step of the power iteration, which is the call's and writes into both."""
    weight, u, v = (getattr(owner, f"{hook.name}_{part}") for part in ("orig", "u", "v"))
    matrix = hook.reshape_weight_to_matrix(weight)
    table: Tensor = weight / torch.dot(u.clone(), torch.mv(matrix, v.clone()))
    return table


def makers(owner: nn.Module, leaf: str) -> Iterator[Tensor]:
    """The parameters and buffers that a computed table is made of."""
    lists = getattr(owner, "parametrizations", {})
    if leaf in lists:
        yield from lists[leaf].parameters()
        yield from lists[leaf].buffers()
        return
    for held in (owner._parameters, owner._buffers):
        yield from (t for name, t in held.items() if t is not None and name.startswith(f"{leaf}_"))


def made_by(owner: nn.Module, leaf: str) -> str:
    """How a module computes its table, in a word."""
    if leaf in getattr(owner, "parametrizations", {}):
        return "parametrized"
    hooks = owner._forward_pre_hooks.values()
    pruned = any(isinstance(h, BasePruningMethod) and h._tensor_name == leaf for h in hooks)
    return "pruned" if pruned else "computed"
