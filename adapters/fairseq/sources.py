"""Choose the tables of a fairseq model: the encoder's, the decoder's, or a joined one."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import cast

from torch import nn

from embshare.config import ShareConfig
from embshare.plan.layer_rules import Rules
from embshare.plan.planner import plan_sharing
from embshare.plan.values import SharePlan

__all__ = ["plan_fairseq"]


def plan_fairseq(
    model: nn.Module, config: ShareConfig, rules: Rules, *, trained: bool | None = None
) -> SharePlan:
    """`plan_sharing`, where ``source="auto"`` gives encoder and decoder each its own table.

    A module with an embedding called ``embed_tokens`` (fairseq's encoders and decoders) has its
    layers read from that one. Where the tables are one parameter, there is one source; where
    there are several, layers outside of all these modules read from the largest.

    Args:
        model: dense.
        config: sharing settings.
        rules: layer kind -> rule.
        trained: see `plan_sharing`.
    Returns:
        The plan; its config has the sources that were chosen.
    Raises:
        PlanError: as `plan_sharing`.
    """
    if config.source != "auto" or not config.reads_table:
        return plan_sharing(model, config, rules=rules, trained=trained)
    owned = dict(_owned(model))
    if len({id(parameter) for parameter in owned.values()}) < 2:
        only = next(iter(owned), None)
        chosen: str | dict[str, str] = "auto" if only is None else _place(only)
    else:
        chosen = _mapping(model, config, rules, owned)
    config = config.model_copy(update={"source": chosen})
    return plan_sharing(model, config, rules=rules, trained=trained)


def _owned(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Prefix of a module -> its own table."""
    for name, module in model.named_modules():
        table = getattr(module, "embed_tokens", None)
        if isinstance(table, nn.Embedding):
            yield name, cast("nn.Parameter", table.weight)


def _place(prefix: str) -> str:
    return f"{prefix}.embed_tokens.weight".removeprefix(".")


def _mapping(
    model: nn.Module, config: ShareConfig, rules: Rules, owned: dict[str, nn.Parameter]
) -> dict[str, str]:
    """Innermost modules first; globs that no weight needs are left out, as they are errors."""
    probe = config.model_copy(
        update={
            "method": "veps",
            "factor": None,
            "factor_norm": False,
            "width": None,
            "gain": "none",
            "anchor": 0.0,
        }
    )
    waiting = set(plan_sharing(model, probe, rules=rules).weights())
    first = {id(parameter): _place(name) for name, parameter in reversed(owned.items())}
    chosen: dict[str, str] = {}
    for prefix in sorted(owned, key=lambda name: -name.count(".")):
        glob = f"{prefix}.*".removeprefix(".")
        if taken := set(fnmatch.filter(waiting, glob)):
            chosen[glob] = first[id(owned[prefix])]
            waiting -= taken
    if waiting:
        largest = max(owned, key=lambda name: owned[name].numel())
        chosen["*"] = first[id(owned[largest])]
    return chosen
