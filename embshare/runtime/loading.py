"""`load_state_dict` of a shared model: nothing is taken that was saved under another plan."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from embshare._keys import ROOT
from embshare._warnings import notify
from embshare.errors import PartStateWarning
from embshare.runtime.bank import BankRef, bank_of
from embshare.runtime.scales import check_state
from embshare.runtime.shared_layers import SharedLayer, derived_names

__all__ = ["bank_name", "check_loading", "checks_loading", "forget_loading"]


def check_loading(model: nn.Module) -> None:
    """Have a shared model, and each of its parts, look at a state dict before any is loaded."""
    model.register_load_state_dict_pre_hook(_check)
    for module in model.modules():
        if module is not model and any(isinstance(m, SharedLayer) for m in module.modules()):
            module.register_load_state_dict_pre_hook(_check_part)


def forget_loading(model: nn.Module) -> None:
    """Undo `check_loading`."""
    hooks = model._load_state_dict_pre_hooks
    for number, hook in list(hooks.items()):
        if getattr(hook, "hook", hook) in (_check, _check_part):
            del hooks[number]


def checks_loading(model: nn.Module) -> bool:
    """Whether `check_loading` holds still."""
    hooks = model._load_state_dict_pre_hooks.values()
    return any(getattr(hook, "hook", hook) is _check for hook in hooks)


def bank_name(model: nn.Module) -> str:
    """Name of a shared model's bank in it, which prefixes the names of its tensors.

    The bank is a child of the model, or of its table where the model is a container.
    """
    ref: BankRef = model.__dict__[ROOT]
    names = (name for name, module in model.named_modules() if module is ref.bank)
    return str(next(names))


def _check(model: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    ref: BankRef | None = model.__dict__.get(ROOT)
    if ref is not None and ref.bank is not None:
        check_state(state, prefix + bank_name(model), ref.bank.scales.plan)


def _check_part(
    part: nn.Module,
    _state: dict[str, Tensor],
    prefix: str,
    metadata: dict[str, Any],
    _strict: bool,
    missing_keys: list[str],
    *_: Any,
) -> None:
    """Check a part that is loaded alone; in its model, whose prefix it has, the model has looked.

    Derived weights count as missing: an error of torch's where loading is strict, else in what
    `load_state_dict` returns.
    """
    missing = [
        f"{path}.{leaf}" if path else leaf
        for path, layer in part.named_modules()
        for leaf in derived_names(layer)
    ]
    bank = bank_of(part)
    if prefix or not missing or (bank is not None and bank.filling):
        return  # a loader that fills a model by name hands each layer its own
    missing_keys += missing
    if isinstance(part, SharedLayer) and metadata.get("assign_to_params_buffers"):
        return  # transformers 4 fills a model so, layer by layer; what is missing is returned
    notify(
        f"a state dict of a part of a shared model ({type(part).__name__}) holds nothing that "
        f"weights such as `{missing[0]}` are derived from, and so does not bring them. Load the "
        f"state dict of the whole model, or materialize both parts first: "
        f"embshare.materialize(part).",
        PartStateWarning,
    )
