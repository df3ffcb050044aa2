"""Where a shared module keeps its bank: attributes that torch does not list.

Modules reach their bank through a `BankRef`, which decides what a copy reads. A copy of the whole
model holds a copy of the bank too, and follows its own table. A copy of a part does not: it reads
the original's bank, so that no bank exists that no model registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from embshare._warnings import notify
from embshare.errors import DerivedWeightError, NotSharedError, PartCopyWarning

if TYPE_CHECKING:
    from embshare.runtime.bank import Bank

__all__ = ["HELD", "KEY", "ROOT", "BankRef", "bank_of", "banks_of", "require_bank", "roots_of"]

KEY: Final = "_embshare"
"""The `BankRef`, in layers with derived weights and in modules that hold such layers."""
HELD: Final = "_embshare_held"
"""Which of the bank's readers the layers of a module hold."""
ROOT: Final = "_embshare_root"
"""The `BankRef`, in the model that was shared."""


class BankRef:
    """How modules reach their bank: one object for all modules of a model.

    Attributes:
        bank: None in a part that was unpickled without the model that it belongs to.
        borrowed: this belongs to a copy of a part, which has not been called yet.
    """

    __slots__ = ("__weakref__", "bank", "borrowed")

    def __init__(self) -> None:
        self.bank: Bank | None = None
        self.borrowed = False

    def get(self) -> Bank:
        """The bank.

        Raises:
            DerivedWeightError: this part was pickled without its model.
        """
        bank = self.bank
        if bank is None:
            raise DerivedWeightError(
                "this is a part of a shared model that was pickled (or sent to a process) without "
                "the table that its weights are derived from. Pickle the whole model, or make the "
                "part plain first: embshare.materialize(part)."
            )
        if self.borrowed:
            self.borrowed = False
            notify(
                "a copy of a part of a shared model reads the original's table: its derived "
                "weights follow the original and are not trained or averaged on their own. Copy "
                "the whole model, or make the copy plain: embshare.materialize(part).",
                PartCopyWarning,
            )
        return bank

    def __deepcopy__(self, memo: dict[int, Any]) -> BankRef:
        # Where the bank is copied too, now or later, `Bank.__setstate__` has the copy take over.
        made = BankRef()
        made.bank, made.borrowed = self.bank, self.bank is not None
        if self.bank is not None:
            self.bank.refs.add(made)
        return made

    def __reduce__(self) -> tuple[type[BankRef], tuple[()]]:
        return BankRef, ()  # the bank, where it is pickled too, finds this by identity


def roots_of(model: nn.Module) -> Iterator[tuple[str, nn.Module, Bank]]:
    """Every shared model in this one, itself included: its name here, itself, and its bank."""
    for name, module in model.named_modules():
        ref: BankRef | None = module.__dict__.get(ROOT)
        if ref is not None and ref.bank is not None:
            yield name, module, ref.bank


def banks_of(model: nn.Module) -> list[Bank]:
    """The banks of all shared models in this one; of a part of one, the bank that it reads."""
    found = list(dict.fromkeys(bank for _, _, bank in roots_of(model)))
    return found or [bank for bank in [bank_of(model)] if bank is not None]


def bank_of(model: nn.Module) -> Bank | None:
    """The first bank that any module of this model reads from, also when it is wrapped."""
    for module in model.modules():
        ref: BankRef | None = module.__dict__.get(KEY)
        if ref is not None and ref.bank is not None:
            return ref.bank
    return None


def require_bank(model: nn.Module) -> Bank:
    """The bank of a shared model, the first one where there are several.

    Raises:
        NotSharedError: the model is dense, or a part of a shared model without its bank.
    """
    bank = bank_of(model)
    if bank is None or all(module is not bank for module in model.modules()):
        raise NotSharedError(model=type(model).__name__)
    return bank
