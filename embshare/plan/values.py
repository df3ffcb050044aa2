"""The plan: which weight is read from which columns of which table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from embshare._value import Value
from embshare.config import ShareConfig
from embshare.ops.flatten import columns_needed

__all__ = ["LeftDense", "RuleMatch", "SharePlan", "Slot", "Source"]

Count = Annotated[int, Field(ge=0, lt=2**48)]
Positive = Annotated[int, Field(ge=1, lt=2**48)]
Error = Annotated[float, Field(ge=0)]


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
    """One weight tensor's place in the columns of a source."""

    weights: Annotated[tuple[str, ...], Field(min_length=1)]
    """Full names of the parameters that read it."""
    source: Count = 0
    """Index in the plan's `sources`."""
    start: Count
    """First column."""
    columns: Positive
    """``G = ceil(numel / V)``."""
    numel: Positive
    shape: Annotated[tuple[Positive, ...], Field(min_length=2)]
    """Shape of the weight as the layer sees it."""
    transposed: bool = False
    """The block is laid out ``[in, out]`` and the weight is its transpose (Linear)."""
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
    def block_shape(self) -> tuple[int, ...]:
        """Shape in which the flattened columns are laid out."""
        return self.shape[::-1] if self.transposed else self.shape

    @model_validator(mode="after")
    def _consistent(self) -> Slot:
        if math.prod(self.shape) != self.numel:
            raise ValueError(f"`numel` must be the product of `shape` {self.shape}")
        if self.channel >= len(self.shape):
            raise ValueError(f"`channel` must be a dimension of {self.shape}")
        if self.transposed and len(self.shape) != 2:
            raise ValueError("only a two-dimensional weight can be `transposed`")
        return self

    @model_serializer(mode="wrap")
    def _known(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(handler(self), "fit_error")


def _without(fields: dict[str, Any], *optional: str) -> dict[str, Any]:
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


class SharePlan(Value):
    """Everything that `share_from_embedding` will do. Comparable, printable, JSON."""

    config: ShareConfig
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    slots: Annotated[tuple[Slot, ...], Field(min_length=1)]
    left_dense: tuple[LeftDense, ...] = ()
    matches: tuple[RuleMatch, ...] = ()
    notes: tuple[str, ...] | None = None
    """What else there is to know before this is carried out."""
    init: Literal["random", "svd"] | None = None
    """What ``init="auto"`` came to; ``None`` where the config says it itself."""
    init_reason: str | None = None
    """Why."""
    fit_error: Error | None = None
    """`Slot.fit_error`, of all derived weights together."""

    @model_serializer(mode="wrap")
    def _known(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(handler(self), "notes", "init", "init_reason", "fit_error")

    @model_validator(mode="after")
    def _decided(self) -> SharePlan:
        if (self.config.init == "auto") != (self.init is not None):
            raise ValueError("`init` must be decided where the config's is 'auto', and only there")
        return self

    @property
    def start(self) -> Literal["random", "svd"]:
        """How the new parameters start."""
        decided = self.init or self.config.init
        assert decided != "auto"
        return decided

    @property
    def start_line(self) -> str:
        """How the new parameters start, why, and how near to trained weights that comes."""
        why = f" ({self.init_reason})" if self.init_reason else ""
        error = (
            "" if self.fit_error is None else f"; relative error of the fit {self.fit_error:.3g}"
        )
        return f"{self.start}{why}{error}"

    def unfitted(self) -> SharePlan:
        """This plan as it was before it was carried out: without errors of a fit."""
        slots = tuple(slot.model_copy(update={"fit_error": None}) for slot in self.slots)
        return self.model_copy(update={"slots": slots, "fit_error": None})

    @model_validator(mode="after")
    def _fits(self) -> SharePlan:
        for table in self.sources:
            self._check_source(table)
        for slot in self.slots:
            if slot.source >= len(self.sources):
                raise ValueError(f"slot of `{slot.weights[0]}` names source {slot.source}")
            source = self.sources[slot.source]
            if slot.stop > source.width:
                raise ValueError(
                    f"slot of `{slot.weights[0]}` must end by column {source.width}, "
                    f"but ends at {slot.stop}"
                )
            if slot.columns != columns_needed(slot.numel, source.rows):
                raise ValueError(f"slot of `{slot.weights[0]}` must have ceil(numel / V) columns")
            if slot.delta != slot.columns * source.rows - slot.numel:
                raise ValueError(
                    f"slot of `{slot.weights[0]}` must have delta = columns * V - numel"
                )
        self._no_overlap()
        self._each_weight_once()
        return self

    def _check_source(self, source: Source) -> None:
        stored = self.config.factor or source.dim
        if source.stored_dim != stored:
            raise ValueError(f"source `{source.name}` must have stored_dim {stored}")
        if self.config.method == "eps" and source.width != stored:
            raise ValueError(
                f"source `{source.name}` must have width {stored}: EPS reads the table"
            )

    def _no_overlap(self) -> None:
        for index, _ in enumerate(self.sources):
            taken = sorted(self.of_source(index), key=lambda slot: slot.start)
            for left, right in pairwise(taken):
                if right.start < left.stop:
                    raise ValueError(
                        f"slots of `{left.weights[0]}` and `{right.weights[0]}` overlap "
                        f"at column {right.start}"
                    )

    def _each_weight_once(self) -> None:
        seen: set[str] = set()
        for name in (*self.weights(), *(name for s in self.sources for name in (s.name, *s.tied))):
            if name in seen:
                raise ValueError(f"`{name}` appears twice")
            seen.add(name)

    def of_source(self, index: int) -> tuple[Slot, ...]:
        """The slots of one source, in plan order."""
        return tuple(slot for slot in self.slots if slot.source == index)

    def weights(self) -> Iterator[str]:
        """Every derived weight's name, slot by slot."""
        for slot in self.slots:
            yield from slot.weights

    def unused_columns(self, index: int = 0) -> int:
        """Columns of a source that no slot reads."""
        return self.sources[index].width - sum(slot.columns for slot in self.of_source(index))

    def __str__(self) -> str:
        from embshare.report.tables import plan_table, render

        return render(plan_table(self))
