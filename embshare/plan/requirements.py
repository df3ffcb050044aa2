"""Whether a model can be planned at all, and warnings about a plan before it is carried out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from torch import nn
from torch.nn.parameter import UninitializedParameter

from embshare._keys import ROOT
from embshare._warnings import notify
from embshare.config import ShareConfig
from embshare.errors import AlreadySharedError, GrowthWarning, InvalidValueError, PlanError
from embshare.integrations import home_of
from embshare.plan.inventory import Candidate, Inventory
from embshare.plan.layer_rules import Rules, rule_for
from embshare.plan.slots import LeftDense
from embshare.plan.values import SharePlan
from embshare.wrapping import unwrapped

__all__ = [
    "FROZEN",
    "checked_config",
    "dense_home",
    "left_dense",
    "residual_reason",
    "unshared_rest",
    "warn_growth",
    "without_frozen",
]

FROZEN: Final = "frozen, while what it would be derived from is trained"


def checked_config(model: object, config: object, *, what: str) -> ShareConfig | SharePlan:
    """The settings, or the defaults.

    Raises:
        InvalidValueError: not a module, or not settings.
    """
    faults = []
    if not isinstance(model, nn.Module):
        made = "an instance of it: its class was given" if isinstance(model, type) else "a module"
        faults.append(f"`model` must be {made} (it is {model!r:.80})")
    if isinstance(config, Mapping):
        faults.append("`config` must be a ShareConfig, but is a mapping: ShareConfig(**config)")
    elif not isinstance(config, (ShareConfig, SharePlan, type(None))):
        faults.append(
            f"`config` must be a ShareConfig or a SharePlan, but is {config!r:.80}: "
            f"for example ShareConfig(method='eps')"
        )
    if faults:
        raise InvalidValueError(what=what, faults=faults)
    assert isinstance(config, (ShareConfig, SharePlan, type(None)))
    return config or ShareConfig()


def dense_home(model: nn.Module) -> nn.Module:
    """What of a dense model is planned: the model itself, or what is inside of a wrapper.

    Raises:
        PlanError: something holds on to its parameters already: DDP, FSDP, adapters, a lazy layer.
    """
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise _too_late(type(model).__name__, "wrap the shared model")
    home = home_of(unwrapped(model))
    for name, parameter in home.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise PlanError(
                f"`{name}` of a lazy module has no shape yet. Call the model on one batch first."
            )
        if hasattr(parameter, "_local_tensor"):
            raise _too_late(f"a sharded model (`{name}` is a DTensor)", "shard the shared model")
    for name, module in home.named_modules():
        if type(module).__module__.startswith("peft."):
            raise _too_late(f"adapters of PEFT (`{name}`)", "add adapters to the shared model")
    return home


def _too_late(finding: str, hint: str) -> PlanError:
    return PlanError(
        f"a model must be shared before others hold on to its parameters, but this is "
        f"{finding}. Share the model first, then {hint}."
    )


def unshared_rest(model: nn.Module, rules: Rules) -> list[str]:
    """Weights of known kinds that no shared model in this one has looked at.

    Raises:
        AlreadySharedError: this is a part of a shared model.
    """
    roots = [module for module in model.modules() if ROOT in module.__dict__]
    if not roots:
        raise AlreadySharedError(model=type(model).__name__, finding="a part of a shared model")
    inside = {module for root in roots for module in root.modules()}
    return [
        f"{path}.{leaf}" if path else leaf
        for path, module in model.named_modules()
        if module not in inside and ROOT not in module.__dict__
        for leaf in _weights(module, rules)
    ]


def _weights(module: nn.Module, rules: Rules) -> Sequence[str]:
    rule = rule_for(module, rules)
    return () if rule is None else rule.weights(module)


# Why: docs/explanation/decisions/frozen-weights.md
def without_frozen(
    group: Sequence[Candidate], table: nn.Parameter | None = None
) -> tuple[list[Candidate], list[Candidate]]:
    """Weights that can be derived together, and frozen ones that stay dense.

    A frozen weight can be derived only where nothing moves that it would be derived from: where
    the table, if there is one, and all weights of the group are frozen too.
    """
    moving = [candidate for candidate in group if candidate.parameter.requires_grad]
    if not moving and (table is None or not table.requires_grad):
        return list(group), []
    return moving, [candidate for candidate in group if not candidate.parameter.requires_grad]


def residual_reason(candidate: Candidate, config: ShareConfig) -> str | None:
    """Why a weight stays dense for the sake of its residual, or None."""
    shape, rank = candidate.parameter.shape, config.residual_rank
    side = min(shape[0], candidate.parameter.numel() // shape[0])
    if rank <= side:
        return None
    return f"a residual of rank {rank} is above its smaller side ({side})"


def warn_growth(plan: SharePlan, inventory: Inventory) -> None:
    """Warn of a plan that stores more than the model does, with both numbers."""
    before = sum(parameter.numel() for parameter in inventory.names)
    parameters = {name: p for p, names in inventory.names.items() for name in names}
    after = before + plan.stored_for_blocks()
    for slot in plan.slots:
        readers = dict.fromkeys(parameters[name] for name in slot.weights)
        own = 1 if plan.config.gain == "learned" else 0
        own = slot.shape[slot.channel] if plan.config.gain == "channel" else own
        own += plan.config.residual_rank * (slot.shape[0] + slot.numel // slot.shape[0])
        after += len(readers) * (own - slot.numel)
    for source in plan.sources:
        if plan.config.factor is not None:
            rows = math.prod(parameters[source.name].shape) // source.dim
            after += source.stored_dim * (rows + source.dim) - rows * source.dim
    if after > before:
        notify(
            f"this plan stores {after:,} parameters, where the model has {before:,}: it grows. "
            + ("Name a table of more rows (source=), set a `factor`, t" if plan.sources else "T")
            + "ie more layers, or lower the rank of the residual.",
            GrowthWarning,
        )


def left_dense(candidate: Candidate, reason: str) -> LeftDense:
    """A weight that stays as it is."""
    return LeftDense(weight=candidate.names[0], numel=candidate.parameter.numel(), reason=reason)
