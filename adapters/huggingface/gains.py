"""Save the gain of a slot, one number, in place of derived weights.

Code that has not imported embshare would draw those weights at random and only warn. A single
number in the place of a matrix is a wrong shape, which transformers refuses to load. And it shows
whether weights and plan belong together: two random starts of one model have different gains.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from embshare.errors import CheckpointError
from embshare.plan.values import SharePlan
from embshare.runtime.bank import require_bank
from embshare.runtime.loading import bank_name
from embshare.runtime.scales import DIGEST, scales_of

__all__ = ["accept_gains", "as_tensors", "check_gain", "check_scales", "refuse_gains"]


def as_tensors(plan: SharePlan) -> dict[str, Tensor]:
    """Name of each slot's first weight -> ``[1]``, the slot's gain."""
    plain: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # whatever the defaults are
    return {slot.weights[0]: torch.tensor([slot.gain], **plain) for slot in plan.slots}


def check_gain(name: str, needs: Tensor, has: Tensor) -> None:
    """Hold a gain that was stored, perhaps cast since, to that of a plan.

    Raises:
        CheckpointError: they differ.
    """
    if torch.equal(needs.to(has.dtype), has.cpu()):
        return
    raise CheckpointError(
        path=name,
        finding=f"was stored with gain {has.item():.6g}, but is derived with {needs.item():.6g}: "
        "weights and plan are of two models",
        hint="Take both from one folder, by from_pretrained.",
    )


def check_scales(name: str, needs: Tensor, has: Tensor) -> None:
    """Hold the layout, or the spreads, that weights were stored with to those of a plan.

    Raises:
        CheckpointError: they differ, as where an anchor or an order was changed in ``config.json``.
    """
    if name.endswith("layout"):  # the rest of it is for people; an average keeps it to rounding
        needs, has = needs[:DIGEST], has[:DIGEST].round()
    if not torch.equal(needs.to(has.dtype), has.cpu()):
        raise CheckpointError(
            path=name,
            finding="was stored with another layout than the plan's: weights and plan are of two "
            "models",
            hint="Take both from one folder, by from_pretrained.",
        )


def accept_gains(model: nn.Module) -> None:
    """Let a shared model load the file of a folder as the state dict that it is."""
    model.register_load_state_dict_pre_hook(_take)


def refuse_gains(model: nn.Module) -> None:
    """Undo `accept_gains`."""
    hooks = model._load_state_dict_pre_hooks
    for number, hook in list(hooks.items()):
        if getattr(hook, "hook", hook) is _take:
            del hooks[number]


def _take(model: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Let the numbers in the place of weights be the gains, where a file has no others."""
    bank = require_bank(model)
    name = f"{prefix}{bank_name(model)}."
    scales = scales_of(bank.plan)
    gains = scales["scales.gains"]
    found = False
    for number, slot in enumerate(bank.plan.slots):
        stored = state.get(prefix + slot.weights[0])
        if stored is not None and stored.shape == (1,):
            gains[number] = state.pop(prefix + slot.weights[0]).item()
            found = True
    if found:
        for key, tensor in scales.items():
            state.setdefault(name + key, tensor)
