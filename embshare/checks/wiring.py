"""Looks at what holds a shared model together: references to banks, calls, hooks."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from types import FunctionType, MethodType
from typing import Any, Final

from torch import nn

from embshare._keys import HELD, KEY
from embshare.checks.findings import Finding, found
from embshare.checks.looks import Rooted
from embshare.runtime.bank import Bank, BankRef
from embshare.runtime.forward_scope import Call
from embshare.runtime.loading import checks_loading
from embshare.runtime.shared_layers import SharedLayer, derived_names
from embshare.runtime.tied_state_dict import hides_aliases

__all__ = ["calls", "hooks", "references"]

DEPTH: Final = 8
"""Number of wrappers around a forward that are looked through."""


def references(model: nn.Module, roots: Sequence[Rooted]) -> Iterator[Finding]:
    """Does each part read a bank that this model registers, through the model that it is of?"""
    registered = {module for module in model.modules() if isinstance(module, Bank)}
    own = {at.bank for at in roots}
    for at in roots:
        if at.bank not in registered:
            text = "has no longer the bank that its layers read among its modules"
            yield found("bank-lost", at.place, text)
    names = {module: name for name, module in model.named_modules()}
    for bank in registered - own:
        text = "is a bank whose model is not here: its children were taken out of it"
        yield found("bank-lost", names[bank], text)
    reported: list[str] = []
    for path, module in model.named_modules():
        if KEY not in module.__dict__ and not isinstance(module, SharedLayer):
            continue
        kind, text = _reference(module, registered, own)
        if kind and not any(path.startswith(f"{outer}.") or not outer for outer in reported):
            reported.append(path)
            yield found(kind, path or type(module).__name__, text)


def _reference(module: nn.Module, registered: set[Bank], own: set[Bank]) -> tuple[str, str]:
    ref: BankRef | None = module.__dict__.get(KEY)
    if ref is None or ref.bank is None:
        return "unpickled", "has no bank to read its weights from"
    if ref.bank not in registered | own:
        return "borrowed", "reads the table of a model that it is no part of"
    if ref is not ref.bank.ref:
        return "copied", "is a copy of a part, and reads what its original reads"
    return "", ""


def calls(at: Rooted) -> Iterator[Finding]:
    """Does each module that holds shared layers derive their weights together?"""
    reported: list[str] = []
    for path, module in at.root.named_modules():
        ref: BankRef | None = module.__dict__.get(KEY)
        if ref is None or ref.bank is not at.bank or not _opens_calls(module, at):
            continue
        state = module.__dict__
        if not any(_reaches(state.get(name), DEPTH) for name in ("forward", "_old_forward")):
            reported.append(path)
    if reported:
        more = f", nor do {len(reported) - 1} more modules" if len(reported) > 1 else ""
        text = f"has a `forward` that does not run the one it had{more}"
        yield found("call-lost", at.name(reported[0]) or at.place, text)


def _opens_calls(module: nn.Module, at: Rooted) -> bool:
    if HELD in module.__dict__:
        return True
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        return False
    if isinstance(module, SharedLayer):
        return len(derived_names(module)) > 1
    return module is at.root


def _reaches(value: Any, depth: int) -> bool:
    """Whether a callable may run a `Call`: what it wraps, binds or closes over is looked at."""
    if isinstance(value, Call):
        return True
    if not depth or value is None or isinstance(value, (nn.Module, type, str)):
        return False
    inner: list[Any] = [getattr(value, "__wrapped__", None)]
    inner.append(getattr(value, "_torchdynamo_orig_callable", None))
    if isinstance(value, MethodType):
        inner += [value.__func__, value.__self__]
    elif isinstance(value, functools.partial):
        inner += [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, FunctionType):
        inner += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        for cell in value.__closure__ or ():
            try:
                inner.append(cell.cell_contents)
            except ValueError:  # an empty cell
                continue
    else:
        inner += list(getattr(value, "__dict__", {}).values())[:32]
    return any(_reaches(part, depth - 1) for part in inner if callable(part))


def hooks(at: Rooted) -> Iterator[Finding]:
    """Are the hooks there that look at state dicts?"""
    if not checks_loading(at.root):
        yield found("loading-unchecked", at.place, "has lost its hook before `load_state_dict`")
    if not hides_aliases(at.root):
        yield found("aliases-shown", at.place, "has lost its hooks around the state dict")
