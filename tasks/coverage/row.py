"""What came out for one architecture."""

from __future__ import annotations

from typing import Literal

from embshare._value import Value

__all__ = ["Kept", "Outcome", "Row"]

Outcome = Literal["passes", "fails", "no table", "not run"]
"""``no table``: it reads no symbols, and sharing refused it with a clear error before any work.
``not run``: it cannot be built or run as it is, dense and without us; `Row.finding` says why."""


class Kept(Value):
    """Weights that stayed dense for one reason."""

    reason: str
    weights: tuple[str, ...]
    """Their names, those of repeated blocks once."""
    elements: int


class Row(Value):
    """One architecture."""

    library: str
    name: str
    outcome: Outcome
    stage: str = ""
    """At which it ended, where it did not pass."""
    finding: str = ""
    """The error's own words."""
    source: tuple[str, ...] = ()
    """Tables that weights were read from."""
    parameters: int = 0
    """Of the model as it was examined, made tiny where its library lets one."""
    hidden: int = 0
    """Elements of the matrices of its layers, heads included and tables not."""
    derived: int = 0
    """Of them, those that are computed from a table when it is shared."""
    dense: tuple[Kept, ...] = ()
    """The others."""
    tables: tuple[Kept, ...] = ()
    """Tables besides the source, and parameters that are vectors in effect."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """Of the hidden parameters, how many are derived: 0 to 1."""
        return self.derived / self.hidden if self.hidden else 0.0
