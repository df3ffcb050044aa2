"""The plan of a checkpoint: in its configuration, and with the weights that are loaded from it.

A plan is made anew wherever a model is built, and its gains are measured on a random start. So a
checkpoint holds the plan that its weights were trained with, and a model that loads them continues
with that one; where anything but a measured number differs, loading is an error.
"""

from __future__ import annotations

from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, cast

from torch import nn

from embshare.adapters.fairseq.options import PLAN
from embshare.adapters.packages import need
from embshare.adopting import adopt_plan
from embshare.errors import PlanMismatchError
from embshare.plan.values import SharePlan
from embshare.runtime.bank import bank_of
from embshare.runtime.loading import bank_name
from embshare.runtime.scales import scales_of

__all__ = ["PlanKeeper", "attach_plan", "keep_plan", "plan_of"]

_KEY: Final = "embshare_plan"
_HINT: Final = (
    "These are weights of a checkpoint: give the --embshare options that they were trained with."
)


class PlanKeeper:
    """A hook before weights are loaded: takes the plan that came with them.

    Args:
        cfg: the model's configuration, which fairseq writes into each checkpoint.
    """

    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg

    def __deepcopy__(self, _: Any) -> PlanKeeper:
        return self  # the copy of a model (a moving average) belongs to the same checkpoint

    def __call__(
        self, model: nn.Module, state: Any, prefix: str, metadata: Mapping[str, Any], *_: Any
    ) -> None:
        """Adopt the plan.

        Raises:
            PlanMismatchError: it has other columns, weights or settings than the model's.
        """
        bank, text = bank_of(model), metadata.get(_KEY)
        if bank is None or text is None:
            return
        plan = SharePlan.from_json(text)
        name = f"{prefix}{bank_name(model)}."
        for key, tensor in scales_of(plan).items():
            state.setdefault(name + key, tensor)  # checkpoints of earlier versions have none
        if plan != bank.plan:
            try:
                adopt_plan(model, plan)
            except PlanMismatchError as error:
                error.add_note(_HINT)
                raise
        self.write(plan)

    def write(self, plan: SharePlan) -> None:
        """Put a plan into the configuration."""
        text = plan.model_dump_json()
        if isinstance(self.cfg, Namespace):
            setattr(self.cfg, PLAN, text)
            return
        with need("omegaconf", extra="fairseq").open_dict(self.cfg):
            self.cfg[PLAN] = text


def keep_plan(model: nn.Module, cfg: Any) -> None:
    """Let a shared model's plan be saved with its configuration, and checked as it loads."""
    bank = bank_of(model)
    assert bank is not None
    keeper = PlanKeeper(cfg)
    keeper.write(bank.plan)
    handle = model.register_load_state_dict_pre_hook(keeper)
    # Before a state is held to the plan: what it was trained with may be in its metadata alone.
    hooks = cast("OrderedDict[int, object]", model._load_state_dict_pre_hooks)
    hooks.move_to_end(handle.id, last=False)


def attach_plan(checkpoint: MutableMapping[str, Any]) -> None:
    """Give a checkpoint's weights the plan that its configuration holds, for `PlanKeeper`.

    It travels where torch keeps the versions of a state dict's modules, which a copy keeps too.

    Args:
        checkpoint: as fairseq reads it from a file; changed in place.
    """
    plan = plan_of(checkpoint)
    if plan is None:
        return
    extra = checkpoint.get("extra_state") or {}
    for holder, name in ((checkpoint, "model"), (extra, "ema")):
        weights = holder.get(name)
        if weights is None:
            continue
        if not isinstance(weights, OrderedDict):
            weights = holder[name] = OrderedDict(weights)
        metadata = OrderedDict(getattr(weights, "_metadata", {}))
        metadata[""] = {**metadata.get("", {}), _KEY: plan}
        weights._metadata = metadata  # type: ignore[attr-defined]


def plan_of(checkpoint: Mapping[str, Any]) -> str | None:
    """The plan that a checkpoint's configuration holds, as JSON; None of a dense model."""
    cfg = checkpoint.get("cfg")
    model = cfg.get("model") if isinstance(cfg, Mapping) else None
    found = model.get(PLAN) if isinstance(model, Mapping) else getattr(model, PLAN, None)
    return None if found is None else str(found)
