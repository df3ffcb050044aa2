"""The parts of a plan: tables, the slots that are cut from their columns, what stays dense."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from embshare._value import Value

__all__ = [
    "Error",
    "LeftDense",
    "RuleMatch",
    "Slot",
    "Source",
    "columns_needed",
    "without_unset",
]

Count = Annotated[int, Field(ge=0, lt=2**48)]
Positive = Annotated[int, Field(ge=1, lt=2**48)]
Error = Annotated[float, Field(ge=0)]


def columns_needed(numel: int, rows: int) -> int:
    """``G = ceil(n / V)``: columns that a block of ``numel`` elements takes of ``rows`` rows."""
    return -(-numel // rows)


class Source(Value):
    """A table that weights are read from."""

    name: str
    """Full name of the parameter, ``encoder.embed.weight``."""
    rows: Positive
    """``V`` at planning time; rows beyond it are never read."""
    dim: Positive
    """``D``: the width that the model sees."""
    stored_dim: Positive
    """``F``: the columns that are stored; ``D`` without a factor."""
    width: Annotated[int, Field(ge=1, lt=2**31)]
    """Columns of the weight material: of ``S`` for VEPS, of the stored table for EPS."""
    tied: tuple[str, ...] = ()
    """Other names of the same parameter: tied heads."""
    spread: Annotated[float, Field(gt=0)] = 1.0
    """Standard deviation of the table's elements when the plan was made."""


class Slot(Value):
    """One block, which some weights read: a place in the columns of a source, or a parameter of its
    own."""

    weights: Annotated[tuple[str, ...], Field(min_length=1)]
    """Full names of the parameters that read it."""
    source: Count | None = 0
    """Index in the plan's `sources`; ``None`` where the block is no table's."""
    start: Count
    """First column."""
    columns: Count
    """``G = ceil(numel / V)``; 0 without a source."""
    numel: Positive
    shape: Annotated[tuple[Positive, ...], Field(min_length=2)]
    """Shape of the weight as the layer sees it."""
    transposed: bool = False
    """The block is ``[in, out]`` and the weight is its transpose (Linear)."""
    channel: Annotated[int, Field(ge=0)] = 0
    """The dimension of `shape` that counts output channels."""
    gain: Annotated[float, Field(gt=0, le=1e30)] = 1.0
    delta: Count = 0
    """Trailing elements ``G V - numel`` that nothing reads."""
    fit_error: Error | None = None
    """After a start by svd: Frobenius norm of what its weights differ by from the trained ones,
    over the norm of these; 0 is exact, and 1 no better than zeros."""

    @property
    def stop(self) -> int:
        """One past the last column."""
        return self.start + self.columns

    @property
    def material(self) -> int:
        """Index of what its block is made of in the bank: its source's, or of the only one."""
        return self.source or 0

    @property
    def block_shape(self) -> tuple[int, ...]:
        """Shape that the flattened columns are given."""
        return self.shape[::-1] if self.transposed else self.shape

    @model_validator(mode="after")
    def _consistent(self) -> Slot:
        if math.prod(self.shape) != self.numel:
            raise ValueError(f"`numel` must be the product of `shape` {self.shape}")
        if self.channel >= len(self.shape):
            raise ValueError(f"`channel` must be a dimension of {self.shape}")
        if self.transposed and len(self.shape) != 2:
            raise ValueError("only a two-dimensional weight can be `transposed`")
        if (self.source is None) != (self.columns == 0):
            raise ValueError("`columns` must be at least 1 of a source, and 0 without one")
        if self.source is None and (self.start or self.delta or self.transposed):
            raise ValueError("`start`, `delta` and `transposed` are of slots with a source")
        return self

    @model_serializer(mode="wrap")
    def _known(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_unset(handler(self), "fit_error")


def without_unset(fields: dict[str, Any], *optional: str) -> dict[str, Any]:
    """Fields without these where they are ``None``: earlier versions wrote, and read, no others."""
    return {
        name: value for name, value in fields.items() if not (value is None and name in optional)
    }


class LeftDense(Value):
    """A weight that stays stored, and why."""

    weight: str
    numel: Count
    reason: str


class RuleMatch(Value):
    """A pattern of the config and how many weights it decided."""

    field: str
    pattern: str
    count: Count
