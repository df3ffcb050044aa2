"""Derived weights while they live: in a call, in a `cached` block, in a backward, in a trace.

In plain words. Every module that holds shared layers calls `enter` before its forward
(`embshare.runtime.forward_scope`). The outermost `enter` of a thread derives the weights that the
module holds, in one projection per source (a block that is a parameter is there already), and puts
them into the layers' own ``__dict__``, where Python finds them without asking anyone; its `leave`
takes them out again. Between calls there is nothing to be stale: a weight that is read then is
derived on the spot (`embshare.runtime.shared_layers.Derived`). What
is kept from one call for the next is looked at before it is used (`embshare.runtime.kept`): as a
whole where no gradients are asked for, by version counters inside of `embshare.cached`.

    what        where       lives                                      is dropped by
    ----------  ----------  -----------------------------------------  ---------------------------
    a call      `_scopes`   from the outermost `enter` of a thread on  its `leave`
    kept        `keeper`    between calls without gradients, on a CPU  a call with gradients, a
                                                                       change, `release`
                            inside of `embshare.cached`, anywhere      a change that torch shows
    a backward  `_live`     as long as the graph of a derivation       the graph, by weak reference
    a trace     `_traced`   while a compiler runs the outermost call   its `leave`
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import get_ident
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from embshare._keys import DTYPE, HELD, PACKED, ROOT
from embshare.ops.autocast import autocast_on
from embshare.ops.derive import Scaled
from embshare.ops.tracing import must_be_plain, passed_over
from embshare.runtime.kept import Dtype, Keeper, Kept, Scope, in_backward
from embshare.runtime.owner import Owner
from embshare.runtime.read_only import ReadOnly

__all__ = ["DerivationCache"]

RECIPES = 64
"""Groups of slots whose recipes are kept; each combination of modules that are called has one."""


@dataclass(eq=False)
class Blocks:
    """The slots of one derivation, without their graph; alive as long as its backward may come."""

    weights: dict[int, Tensor]
    versions: tuple[object, ...]
    __slots__ = ("__weakref__", "versions", "weights")


class DerivationCache:
    """What has been derived from a bank, and for how long it may be used."""

    def __init__(self, bank: Owner) -> None:
        self.bank = bank
        self._scopes: dict[int, Scope] = {}
        self.keeper = Keeper(bank)
        self._live: dict[int, ReferenceType[Blocks]] = {}
        self._during: dict[int, Blocks] = {}
        self._recipes: dict[object, object] = {}
        self._traced: dict[int, Tensor] | None = None
        self.calls = 0
        """Calls of the whole model with gradients, counted by `embshare.runtime.forward_scope`."""

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
        if dtype is not scope.dtype and self.bank.materials[0].dtype(0) is torch.float32:
            scope.dtype = dtype
            self._weights(scope, {index for index, _ in list(scope.weights)})  # placed ones too
            self._place(scope)
        return False

    def leave(self) -> None:
        """The end of the outermost call."""
        if torch.compiler.is_compiling():
            self._traced = None
            return
        self.keeper.settle(self._scopes.pop(get_ident()))
        self._evict()
        for source in self.bank.columns:
            source.evict()

    def _open(self, module: nn.Module) -> None:
        self._traced = None  # left by a trace that failed
        wanted: Sequence[int] = self._held_by(module)
        if self.keeper.blocks:  # encoder first, decoder next: still one projection
            wanted = self._everything()
        self._require_values(module)
        scope = self._scope(self.keeper.for_call(), wanted)
        self._weights(scope, wanted)  # all that can fail
        scope.grown = False
        for source in self.bank.columns:
            source.place()
        self._scopes[get_ident()] = scope
        self._place(scope)

    def _require_values(self, module: nn.Module) -> None:
        """What is made of tensors on meta is for modules on meta."""
        for material in self.bank.materials:
            if material.device().type == "meta":
                around = itertools.chain(self.bank.parameters(), module.parameters())
                material.check_values(around)

    @passed_over
    def _held_by(self, module: nn.Module) -> tuple[int, ...]:
        """The readers that a module's layers hold; written into it when it was shared."""
        held: tuple[int, ...] = module.__dict__[HELD]
        return tuple(i for i in held if i not in self.bank.unread) if self.bank.unread else held

    # Why: docs/explanation/decisions/placed-for-a-call.md
    def _place(self, scope: Scope) -> None:
        """Put weights where attribute look-up finds them first. With a second thread, nowhere."""
        if len(self._scopes) > 1:
            self._evict()
            return
        for (index, dtype), weight in list(scope.weights.items()):  # other threads add to it
            if dtype is self._dtype(scope, index):
                for layer, name in self.bank.readers[index].places:
                    layer.__dict__.pop(name, None)
                    if scope.dtype is None or HELD in layer.__dict__:
                        layer.__dict__[name] = weight  # the others may switch autocast off

    def _evict(self) -> None:
        for reader in self.bank.readers:
            for layer, name in reader.places:
                layer.__dict__.pop(name, None)
                layer.__dict__.pop(PACKED, None)

    @passed_over
    def gives_weights(self, module: nn.Module) -> bool:
        """Whether a compiler is given the weights of a call, or derives them in its graph.

        The whole model's are derived in the graph. A part's are given, since it would be compiled
        once for each part of its class otherwise; so are those that are there or kept.
        """
        part = len(module.__dict__[HELD]) < len(self.bank.readers)
        return part or self.keeper.blocks > 0 or get_ident() in self._scopes

    # ------------------------------------------------------------------ reads

    def read(self, index: int) -> Tensor:
        """The current weight of a reader, wherever it is asked for."""
        if torch.compiler.is_compiling():
            found = (self._traced or {}).get(index)
            return self._plain([index])[index] if found is None else found
        scope = self._scopes.get(get_ident())
        if scope is None:
            for layer, _ in self.bank.readers[index].places[:1]:
                self._require_values(layer)
            kept = self.keeper.for_read()
            scope = self._scope(kept, self._everything())
            if (index, self._dtype(scope, index)) not in scope.weights:
                # Apart from what calls begin with: this product of a few columns may round
                # otherwise, and what a call computes depends on no read before it.
                scope = self._scope(kept, (-1 - self.bank.readers[index].slot,))
            self._weights(scope, [index])
            self.keeper.settle(scope)
        else:
            self._weights(scope, [index])
        return scope.weights[index, self._dtype(scope, index)]

    def read_all(self) -> dict[int, Tensor]:
        """The current weights of all readers that a layer holds, whatever was kept."""
        scope = self._scope(None, ())
        for index in self._everything():
            self._weights(scope, [index])
        return {index: weight for (index, _), weight in scope.weights.items()}

    def look(self, index: int) -> Tensor:
        """The weight for whoever reads a layer's attribute; outside of calls for reading alone."""
        weight = self.read(index)
        if torch.compiler.is_compiling():
            return weight
        inside = must_be_plain() or self.bank.filling or get_ident() in self._scopes
        plain = type(weight) in (Tensor, nn.Parameter)
        if inside or not plain or weight.device.type == "meta":
            return weight
        return weight.contiguous().as_subclass(ReadOnly)  # as a dense layer's lies, for `view`

    def _dtype(self, scope: Scope, index: int) -> Dtype:
        cast = scope.dtype is not None and self.bank.readers[index].cast
        if cast and autocast_on(scope.kind) is scope.dtype:
            return scope.dtype
        return self._own_dtype(index) if self.bank.mixed else None

    def _own_dtype(self, index: int) -> Dtype:
        """A layer's, where it is another than that of what it reads."""
        reader = self.bank.readers[index]
        own: Dtype = next((layer.__dict__.get(DTYPE) for layer, _ in reader.places), None)
        return None if own is self.bank.material(reader.slot).dtype(reader.slot) else own

    def _weights(self, scope: Scope, wanted: Iterable[int]) -> None:
        """Fill a scope with these readers' weights."""
        pairs = [(index, self._dtype(scope, index)) for index in wanted]
        missing = [pair for pair in pairs if pair not in scope.weights]
        if not missing:
            return
        if scope.kept is not None and torch.is_inference_mode_enabled():
            with torch.inference_mode(mode=False):  # a later call may want their graph
                self._weights(scope, [index for index, _ in missing])
            return
        scope.grown = True
        slots = dict.fromkeys((self.bank.readers[index].slot, dtype) for index, dtype in missing)
        self._slots(scope, [pair for pair in slots if pair not in scope.slots])
        for index, dtype in missing:
            block = scope.slots[self.bank.readers[index].slot, dtype]
            relaxed = self.bank.relaxed[index](block) if self.bank.relaxed else block
            scope.weights[index, dtype] = relaxed
            if scope.kept is not None:
                scope.kept.note(relaxed)

    def _slots(self, scope: Scope, missing: Sequence[tuple[int, Dtype]]) -> None:
        """One derivation of each material, cast as it is made; or first plain if some are cast."""
        new = dict.fromkeys(slot for slot, _ in missing if (slot, None) not in scope.slots)
        dtypes = {dtype for slot, dtype in missing if slot in new}
        first = dtypes.pop() if len(dtypes) == 1 else None
        for group in self._by_material(new):
            for slot, block in zip(group, self._derive(group, first), strict=True):
                scope.slots[slot, first] = block
        for slot, dtype in missing:
            if (slot, dtype) not in scope.slots:
                with torch.enable_grad():
                    scope.slots[slot, dtype] = scope.slots[slot, None].to(dtype)

    def _by_material(self, slots: Iterable[int]) -> Iterator[tuple[int, ...]]:
        groups: dict[int, list[int]] = {}
        for slot in slots:
            groups.setdefault(self.bank.scales.plan.slots[slot].material, []).append(slot)
        return map(tuple, groups.values())

    def _recipe(self, group: tuple[int, ...]) -> object:
        key = (group, *self.bank.scales.values(), self.bank.material(group[0]).recipe_key())
        recipe = self._recipes.get(key)
        if recipe is None:
            if len(self._recipes) > RECIPES:
                self._recipes.clear()
            recipe = self._recipes[key] = self._new_recipe(group)
        return recipe

    def _new_recipe(self, group: tuple[int, ...]) -> object:
        scales = self.bank.scales
        # Tracers get these numbers as tensors, so that a state that is loaded recompiles nothing.
        gains, deviations = scales.planned if must_be_plain() else scales.values()
        return self.bank.material(group[0]).recipe(scales.plan, group, gains, deviations)

    def _traced_scales(self, group: tuple[int, ...]) -> Scaled | None:
        """Gains of slots and their anchor as tensors, for those who see through the operations."""
        if not must_be_plain():
            return None
        plan, scales = self.bank.scales.plan, self.bank.scales
        gains, source = [scales.gains[slot] for slot in group], plan.slots[group[0]].source
        return gains, None if source is None else plan.config.anchor * scales.spreads[source]

    def _derive(self, group: tuple[int, ...], dtype: Dtype) -> tuple[Tensor, ...]:
        """The blocks of some slots of one material: one derivation, or none inside a backward."""
        number = self.bank.scales.plan.slots[group[0]].material
        material = self.bank.materials[number]
        recipe, scales = self._recipe(group), self._traced_scales(group)
        if not material.computed:  # there already: nothing to count, or to keep for a backward
            return material.make(recipe, scales=scales, dtype=dtype)
        ready = self._ready(number, group, dtype) if in_backward() else None
        if ready is None:
            self.bank.evaluations += 1

        def keep(node: Any, weights: tuple[Tensor, ...]) -> None:
            blocks = Blocks(dict(zip(group, weights, strict=True)), material.fingerprint())
            node.blocks = blocks  # lives as long as the graph
            if ready is None:
                self._live[number] = ref(blocks)

        return material.make(recipe, scales=scales, dtype=dtype, ready=ready, keep=keep)

    def _ready(self, number: int, group: tuple[int, ...], dtype: Dtype) -> list[Tensor]:
        """Weights of the forward, which activation checkpointing asks for again in a backward."""
        material = self.bank.materials[number]
        blocks = self._live[number]() if number in self._live else None
        if (
            blocks is None
            or blocks.versions != material.fingerprint()
            or any(slot not in blocks.weights for slot in group)
            or any(blocks.weights[s].dtype != (dtype or material.dtype(s)) for s in group)
        ):
            blocks = self._again(number, dtype)
        return [blocks.weights[slot] for slot in group]

    # Why: docs/explanation/decisions/reentrant-checkpointing.md
    def _again(self, number: int, dtype: Dtype) -> Blocks:
        """Reentrant checkpointing kept no graph: derive all, hold them until this backward ends."""
        self.bank.evaluations += 1
        material = self.bank.materials[number]
        group = tuple(
            i for i, slot in enumerate(self.bank.scales.plan.slots) if slot.material == number
        )
        weights = material.make(self._recipe(group), dtype=dtype)
        plain = dict(zip(group, (weight.detach() for weight in weights), strict=True))
        blocks = Blocks(plain, material.fingerprint())
        self._live[number] = ref(blocks)
        self._during[number] = blocks
        torch.autograd.Variable._execution_engine.queue_callback(self._during.clear)
        return blocks

    def _everything(self) -> tuple[int, ...]:
        return tuple(i for i in range(len(self.bank.readers)) if i not in self.bank.unread)

    def _scope(self, kept: Kept | None, wanted: Sequence[int]) -> Scope:
        """A new scope; what is kept of a call for the same readers is in it already."""
        first = self.bank.materials[0]
        kind = first.device().type
        dtype = autocast_on(kind) if first.dtype(0) is torch.float32 else None
        if kept is None:
            return Scope(kind, dtype)
        return Scope(kind, dtype, *kept.derived[wanted], kept)

    # ------------------------------------------------------------------ tracing

    def _enter_traced(self, module: nn.Module) -> bool:
        """Derive for the outermost module, in operations that a tracer sees; place nothing."""
        if self._scopes or self._traced is not None:  # a part of an eager call, or of this one
            return False
        if self.keeper.blocks and self.keeper.worth and torch.compiler.is_dynamo_compiling():
            self.keeper.unused = True  # nothing in a graph could notice that they are stale
        if ROOT in module.__dict__:
            self.bank.check_tables(module)
        self._traced = self._plain(self._held_by(module))
        return True

    def _plain(self, wanted: Iterable[int]) -> dict[int, Tensor]:
        wanted = sorted(wanted)
        slots: dict[int, Tensor] = {}
        for group in self._by_material(
            dict.fromkeys(self.bank.readers[index].slot for index in wanted)
        ):
            scales = self._traced_scales(group)
            recipe = self._new_recipe(group)  # a compiler would watch what is remembered
            found = self.bank.material(group[0]).make(recipe, scales=scales)
            slots |= zip(group, found, strict=True)
        return {index: self._whole(index, slots[self.bank.readers[index].slot]) for index in wanted}

    def _whole(self, index: int, block: Tensor) -> Tensor:
        """A reader's weight from the block of its slot."""
        own = self._own_dtype(index) if self.bank.mixed else None
        block = block if own is None else block.to(own)
        return self.bank.relaxed[index](block) if self.bank.relaxed else block
