"""The plan: which weight is read from which columns of which table."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from rich.console import Group, RenderableType
from rich.text import Text

from embshare._tables import plural, render
from embshare._value import Value
from embshare.config import ShareConfig
from embshare.plan.printing import (
    left_dense_table,
    matches_table,
    slots_table,
    sources_table,
)
from embshare.plan.slots import (
    Error,
    LeftDense,
    RuleMatch,
    Slot,
    Source,
    columns_needed,
    without_unset,
)
from embshare.plan.uneven import Uneven, uneven_roles

__all__ = ["SharePlan"]


class SharePlan(Value):
    """Everything that `share_from_embedding` will do. Comparable, printable, JSON."""

    config: ShareConfig
    sources: tuple[Source, ...]
    """Tables that blocks are columns of; none where the method reads no table."""
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
        return without_unset(handler(self), "notes", "init", "init_reason", "fit_error")

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
        reads = self.config.reads_table
        if reads != bool(self.sources):
            raise ValueError(f"`sources` must {'name' if reads else 'be empty without'} a table")
        for table in self.sources:
            self._check_source(table)
        for slot in self.slots:
            if reads != (slot.source is not None):
                needs = "name" if reads else "be None without"
                raise ValueError(f"`source` of `{slot.weights[0]}` must {needs} a table")
            if slot.source is None:
                continue
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

    def stored_for(self, index: int) -> int:
        """Elements of a source's projection and column bias; none for EPS."""
        if self.config.method == "eps":
            return 0
        source = self.sources[index]
        return source.width * (source.stored_dim + self.config.column_bias)

    def stored_for_blocks(self) -> int:
        """Elements of what blocks are made of besides tables."""
        own = sum(slot.numel for slot in self.slots if slot.source is None)
        return own + sum(map(self.stored_for, range(len(self.sources))))

    def uneven(self) -> tuple[Uneven, ...]:
        """What is shared in some repeated blocks only."""
        return uneven_roles(self.slots, self.left_dense)

    def poor_sources(self) -> list[str]:
        """A sentence for each table whose projection is no smaller than the weights it gives.

        A slot of ``n`` elements costs ``n F / V``: a table with fewer rows than columns pays only
        where several layers read one slot.
        """
        notes = []
        for index, source in enumerate(self.sources):
            cost = self.stored_for(index)
            gain = sum(slot.numel * len(slot.weights) for slot in self.of_source(index))
            if cost >= gain:
                notes.append(
                    f"`{source.name}` is a poor source: {cost:,} elements are stored in the place "
                    f"of {gain:,}, because it has {source.rows:,} rows for {source.stored_dim:,} "
                    f"columns. Name a table of more rows, tie more layers, or set a `factor`."
                )
        return notes

    def __str__(self) -> str:
        return render(self)

    def __rich__(self) -> RenderableType:
        """Sources, slots, what stayed dense and why, and what each pattern decided."""
        numbers = range(len(self.sources))
        unused, stored = map(self.unused_columns, numbers), map(self.stored_for, numbers)
        parts: list[RenderableType] = [Text(self._headline())]
        if self.sources:
            parts.append(sources_table(self.sources, [*unused], [*stored]))
        parts += [Text(f"{note}\n") for note in (*self.poor_sources(), *(self.notes or ()))]
        parts.append(slots_table(self.slots, self.config.order, several=len(self.sources) > 1))
        if self.left_dense:
            parts.append(left_dense_table(self.left_dense))
        parts += (Text(f"uneven: {uneven}\n") for uneven in self.uneven())
        if self.matches:
            parts.append(matches_table(self.matches))
        return Group(*parts)

    def _headline(self) -> str:
        readers = sum(len(slot.weights) for slot in self.slots)
        derived = sum(slot.numel * len(slot.weights) for slot in self.slots)
        settings = ", ".join(
            f"{name}={getattr(self.config, name)!r}"
            for name, field in ShareConfig.model_fields.items()
            if getattr(self.config, name) != field.default
        )
        return (
            f"{self.config.method.upper()}, tie={self.config.tie}: {plural(readers, 'weight')} "
            f"({derived:,} elements) from {plural(len(self.slots), 'slot')}\n"
            f"ShareConfig({settings})\n"
            f"start: {self.start_line}"
        )
