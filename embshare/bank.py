"""The bank: the one object that owns the sources' projections and hands out weights.

In plain words. Every module that holds shared layers calls `enter` before its forward
(`embshare.calls`). The outermost `enter` of a thread derives the weights that the module holds, in
one projection per source, and puts them into the layers' own ``__dict__``, where Python finds them
without asking anyone; its `leave` takes them out again. Between calls there is nothing to be stale:
a weight that is read then is derived on the spot (`embshare.layers.Derived`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from embshare.casting import autocast_on
from embshare.columns import Columns
from embshare.config import ShareConfig
from embshare.derive import Layout, derive, layout_of, must_be_plain
from embshare.fingerprint import Structure
from embshare.layers import PACKED
from embshare.notices import Repeats, tell_changed, tell_unused
from embshare.plan import SharePlan
from embshare.relax import Relaxation, needs_relaxation
from embshare.tracing import passed_over

__all__ = ["Bank", "Reader"]

Dtype = torch.dtype | None
"""Of derived weights: None is the table's own, else what autocast asks for."""


@dataclass(eq=False)
class Reader:
    """One derived weight and the layers that hold it (several where the model ties it)."""

    slot: int
    places: list[tuple[nn.Module, str]]
    requires_grad: bool
    cast: bool
    """Once per call under autocast; else autocast casts where it is used."""

    @property
    def like(self) -> Tensor:
        """The stored weight, while there is one."""
        layer, name = self.places[0]
        weight = layer._parameters[name]
        assert weight is not None
        return weight.detach()


@dataclass(eq=False)
class Blocks:
    """The slots of one derivation, without their graph; alive as long as its backward may come."""

    weights: dict[int, Tensor]
    versions: tuple[object, ...]
    __slots__ = ("__weakref__", "versions", "weights")


@dataclass(eq=False)
class Scope:
    """What one thread has derived since its outermost call began."""

    kind: str
    dtype: Dtype
    slots: dict[tuple[int, Dtype], Tensor] = field(default_factory=dict)
    weights: dict[tuple[int, Dtype], Tensor] = field(default_factory=dict)


def in_backward() -> bool:
    """Whether this thread is inside of an eager backward pass; a compiler traces neither."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


class Bank(nn.Module):
    """Owns what sharing stores besides the table; registered once, at the model's root.

    Attributes:
        plan: what it was built from.
        structure: of the dense model, for checkpoints.
        sources: one `Columns` for each source of the plan.
        relaxations: one for each reader where the config asks for learned gains or residuals.
    """

    def __init__(
        self,
        plan: SharePlan,
        sources: Sequence[Columns],
        readers: Sequence[Reader],
        structure: Structure,
    ) -> None:
        super().__init__()
        self.structure = structure
        self.plan = plan
        self._columns: tuple[Columns, ...]
        self._relaxed: tuple[nn.Module, ...]
        self.sources = nn.ModuleList(sources)
        config: ShareConfig = plan.config
        self.relaxations = nn.ModuleList(
            Relaxation(plan.slots[r.slot], config, r.like)
            for r in readers
            if needs_relaxation(config)
        )
        self.readers = list(readers)
        self.__dict__["_columns"] = tuple(sources)  # past nn.Module's slow look-up
        self.__dict__["_relaxed"] = tuple(self.relaxations)
        self.evaluations = 0
        """How many projections were computed; tests count them."""
        self._fresh()

    @property
    def columns(self) -> tuple[Columns, ...]:
        """The sources, typed."""
        return self._columns

    def reset(self, generator: torch.Generator | None) -> None:
        """The random start: columns as spread as the table, relaxations that change nothing."""
        for columns in self._columns:
            columns.reset(generator)
        for relaxation in self.relaxations:
            assert isinstance(relaxation, Relaxation)
            relaxation.reset(generator)

    def _fresh(self) -> None:
        self._scopes: dict[int, Scope] = {}
        self._kept: Scope | None = None
        self._kept_count = 0
        self._kept_unused = False
        self._kept_versions: list[object] = []
        self._live: dict[int, ReferenceType[Blocks]] = {}
        self._during: dict[int, Blocks] = {}
        self._layouts: dict[tuple[int, ...], Layout] = {}
        self._traced: dict[int, Tensor] | None = None
        self._repeats = Repeats()

    def __getstate__(self) -> dict[str, Any]:
        gone = {"_scopes", "_kept", "_kept_count", "_kept_versions", "_live", "_layouts"}
        gone |= {"_during", "_traced", "_repeats", "_kept_unused"}
        return {name: value for name, value in self.__dict__.items() if name not in gone}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._fresh()

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"{len(self.readers)} weights from {len(self.plan.slots)} slots"

    # ------------------------------------------------------------------ calls

    def enter(self, module: nn.Module) -> bool:
        """Have a module's weights ready; True for the outermost call, which has to `leave`."""
        if torch.compiler.is_compiling():
            return self._enter_traced(module)
        scope = self._scopes.get(get_ident())
        if scope is None:
            self._open(module)
            return True
        dtype = autocast_on(scope.kind)
        if dtype is not scope.dtype and self._casts():
            scope.dtype = dtype
            self._weights(scope, self._held_by(module))
            self._place(scope)
        return False

    def leave(self) -> None:
        """The end of the outermost call."""
        if torch.compiler.is_compiling():
            self._traced = None
            return
        del self._scopes[get_ident()]
        self._evict()

    def _open(self, module: nn.Module) -> None:
        self._traced = None  # left by a trace that failed
        wanted: Iterable[int] = self._held_by(module)
        scope = self._scope()
        if self._kept is not None:
            wanted = range(len(self.readers))  # encoder first, decoder next: still one projection
        elif not torch.is_grad_enabled() and not must_be_plain():
            self._repeats.note([source.fingerprint() for source in self._columns])
        self._weights(scope, wanted)  # all that can fail
        self._scopes[get_ident()] = scope
        self._place(scope)

    @passed_over
    def _held_by(self, module: nn.Module) -> tuple[int, ...]:
        """The readers that a module's layers hold; written into it when it was shared."""
        held: tuple[int, ...] = module._embshare_held  # type: ignore[assignment]
        return held

    def _place(self, scope: Scope) -> None:
        """Put weights where attribute look-up finds them first. With a second thread, nowhere."""
        if len(self._scopes) > 1:
            self._evict()
            return
        for (index, dtype), weight in scope.weights.items():
            if dtype is self._dtype(scope, index):
                for layer, name in self.readers[index].places:
                    layer.__dict__[name] = weight

    def _evict(self) -> None:
        for reader in self.readers:
            for layer, name in reader.places:
                layer.__dict__.pop(name, None)
                layer.__dict__.pop(PACKED, None)

    @passed_over
    def gives_weights(self, module: nn.Module) -> bool:
        """Whether a compiler is given the weights of a call, or derives them in its graph.

        The whole model's are derived in the graph. A part's are given, since it would be compiled
        anew for each part of its class otherwise; so are those that are there or kept.
        """
        part = len(self._held_by(module)) < len(self.readers)
        return part or self._kept is not None or get_ident() in self._scopes

    # ------------------------------------------------------------------ reads

    def read(self, index: int) -> Tensor:
        """The current weight of a reader, wherever it is asked for."""
        if torch.compiler.is_compiling():
            found = (self._traced or {}).get(index)
            return self._plain([index])[index] if found is None else found
        scope = self._scopes.get(get_ident())
        if scope is None:
            scope = self._scope()
        self._weights(scope, [index])
        return scope.weights[index, self._dtype(scope, index)]

    def _dtype(self, scope: Scope, index: int) -> Dtype:
        return scope.dtype if self.readers[index].cast else None

    def _weights(self, scope: Scope, wanted: Iterable[int]) -> None:
        """Fill a scope with these readers' weights."""
        pairs = [(index, self._dtype(scope, index)) for index in wanted]
        missing = [pair for pair in pairs if pair not in scope.weights]
        if not missing:
            return
        slots = dict.fromkeys((self.readers[index].slot, dtype) for index, dtype in missing)
        self._slots(scope, [pair for pair in slots if pair not in scope.slots])
        for index, dtype in missing:
            block = scope.slots[self.readers[index].slot, dtype]
            relaxed = self._relaxed[index](block) if self._relaxed else block
            scope.weights[index, dtype] = relaxed

    def _slots(self, scope: Scope, missing: Sequence[tuple[int, Dtype]]) -> None:
        """One projection for each source, cast as it is cut; or first plain where some are cast."""
        new = dict.fromkeys(slot for slot, _ in missing if (slot, None) not in scope.slots)
        dtypes = {dtype for slot, dtype in missing if slot in new}
        first = dtypes.pop() if len(dtypes) == 1 else None
        for group in self._by_source(new):
            for slot, block in zip(group, self._derive(group, first), strict=True):
                scope.slots[slot, first] = block
        for slot, dtype in missing:
            if (slot, dtype) not in scope.slots:
                with torch.enable_grad():
                    scope.slots[slot, dtype] = scope.slots[slot, None].to(dtype)

    def _by_source(self, slots: Iterable[int]) -> Iterator[tuple[int, ...]]:
        groups: dict[int, list[int]] = {}
        for slot in slots:
            groups.setdefault(self.plan.slots[slot].source, []).append(slot)
        return map(tuple, groups.values())

    def _layout(self, group: tuple[int, ...]) -> Layout:
        layout = self._layouts.get(group)
        if layout is None:
            layout = self._layouts[group] = self._new_layout(group)
        return layout

    def _new_layout(self, group: tuple[int, ...]) -> Layout:
        source, config = self.plan.sources[self.plan.slots[group[0]].source], self.plan.config
        slots = [self.plan.slots[slot] for slot in group]
        anchor = config.anchor * source.spread
        return layout_of(slots, source.rows, config.order, anchor=anchor)

    def _derive(self, group: tuple[int, ...], dtype: Dtype) -> tuple[Tensor, ...]:
        """The weights of some slots of one source: one projection, or none inside a backward."""
        number = self.plan.slots[group[0]].source
        source = self._columns[number]
        ready = self._ready(number, group, dtype) if in_backward() else None
        if ready is None:
            self.evaluations += 1

        def keep(node: Any, weights: tuple[Tensor, ...]) -> None:
            blocks = Blocks(dict(zip(group, weights, strict=True)), source.fingerprint())
            node.blocks = blocks  # lives as long as the graph
            if ready is None:
                self._live[number] = ref(blocks)

        return derive(self._layout(group), *source.inputs(), dtype=dtype, ready=ready, keep=keep)

    def _ready(self, number: int, group: tuple[int, ...], dtype: Dtype) -> list[Tensor]:
        """Inside a backward, activation checkpointing asks again for what its forward had."""
        source = self._columns[number]
        blocks = self._live[number]() if number in self._live else None
        if (
            blocks is None
            or blocks.versions != source.fingerprint()
            or any(slot not in blocks.weights for slot in group)
            or any(blocks.weights[slot].dtype != (dtype or source.dtype()) for slot in group)
        ):
            blocks = self._again(number, dtype)
        return [blocks.weights[slot] for slot in group]

    def _again(self, number: int, dtype: Dtype) -> Blocks:
        """Reentrant checkpointing kept no graph: derive all, hold them until this backward ends."""
        self.evaluations += 1
        source = self._columns[number]
        group = tuple(i for i, slot in enumerate(self.plan.slots) if slot.source == number)
        weights = derive(self._layout(group), *source.inputs(), dtype=dtype)
        plain = dict(zip(group, (weight.detach() for weight in weights), strict=True))
        blocks = Blocks(plain, source.fingerprint())
        self._live[number] = ref(blocks)
        self._during[number] = blocks
        torch.autograd.Variable._execution_engine.queue_callback(self._during.clear)
        return blocks

    def _scope(self) -> Scope:
        """A new scope; what is kept, if anything is, is in it already."""
        table = self._columns[0].table()
        kind = table.device.type
        scope = Scope(kind, autocast_on(kind) if table.dtype is torch.float32 else None)
        if self._kept is not None:
            self._refresh_kept(self._kept)
            scope.slots, scope.weights = self._kept.slots, self._kept.weights
        return scope

    def _casts(self) -> bool:
        """Autocast casts float32 alone."""
        return bool(self._columns[0].dtype() is torch.float32)

    # ------------------------------------------------------------------ tracing

    def _enter_traced(self, module: nn.Module) -> bool:
        """Under a tracer nothing is placed: the outermost module derives, in plain operations."""
        if self._scopes:  # a compiled part of an eager call reads what the call has placed
            return False
        if self._traced is not None:
            return False
        if self._kept is not None and torch.compiler.is_dynamo_compiling():
            self._kept_unused = True  # nothing in a graph could notice that they are stale
        self._traced = self._plain(self._held_by(module))
        return True

    def _plain(self, wanted: Iterable[int]) -> dict[int, Tensor]:
        wanted = sorted(wanted)
        slots: dict[int, Tensor] = {}
        for group in self._by_source(dict.fromkeys(self.readers[index].slot for index in wanted)):
            source = self.sources[self.plan.slots[group[0]].source]
            assert isinstance(source, Columns)
            layout = self._new_layout(group)  # a compiler would watch what is remembered
            slots |= zip(group, derive(layout, *source.inputs()), strict=True)
        return {
            index: self._relaxed[index](slots[self.readers[index].slot])
            if self._relaxed
            else slots[self.readers[index].slot]
            for index in wanted
        }

    # ------------------------------------------------------------------ keeping

    def keep(self) -> None:
        """Begin to keep derived weights across calls; calls nest."""
        if self._kept is None:
            self._kept = self._scope()
            self._kept_versions = self._fingerprint()
        self._kept_count += 1

    def release(self) -> None:
        """End what `keep` began."""
        self._kept_count -= 1
        if not self._kept_count:
            self._kept = None
            if self._kept_unused:
                self._kept_unused = False
                tell_unused()

    def _refresh_kept(self, kept: Scope) -> None:
        versions = self._fingerprint()
        if versions != self._kept_versions:
            tell_changed()
            kept.slots.clear()
            kept.weights.clear()
            self._kept_versions = versions

    def _fingerprint(self) -> list[object]:
        found: list[object] = []
        for source in self._columns:
            found += source.fingerprint()
        for relaxation in self._relaxed:
            for p in relaxation.parameters():
                found += (id(p), p._version, p.data_ptr())
        return found
