"""Where a shared module keeps its bank: an attribute that torch does not list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from torch import nn

from embshare.errors import NotSharedError

if TYPE_CHECKING:
    from embshare.bank import Bank

__all__ = ["HELD", "KEY", "bank_of", "require_bank"]

KEY: Final = "_embshare"
"""The bank, in layers with derived weights and in modules that hold such layers."""
HELD: Final = "_embshare_held"
"""Which of the bank's readers the layers of a module hold."""


def bank_of(model: nn.Module) -> Bank | None:
    """The bank that any module of this model reads from, also when it is wrapped."""
    for module in model.modules():
        bank: Bank | None = module.__dict__.get(KEY)
        if bank is not None:
            return bank
    return None


def require_bank(model: nn.Module) -> Bank:
    """The bank of a shared model.

    Raises:
        NotSharedError: the model is dense, or a part of a shared model without its bank.
    """
    bank = bank_of(model)
    if bank is None or all(module is not bank for module in model.modules()):
        raise NotSharedError(model=type(model).__name__)
    return bank
