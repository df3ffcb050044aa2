"""One source's columns: a table that the model owns, and the projection that the bank owns."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from embshare.blocks.computed import computed, made_by, makers
from embshare.blocks.layout import layout_of
from embshare.blocks.material import Keep
from embshare.blocks.resident import device_of, require_values, resident, stamp
from embshare.errors import CheckpointError, SourceShrunkError, TableReplacedError
from embshare.ops.checksum import has_fast_sums, plain_memory
from embshare.ops.derive import Layout, Scaled, derive
from embshare.ops.tracing import passed_over
from embshare.plan.slots import Source
from embshare.plan.values import SharePlan

__all__ = ["Columns"]


class Columns(nn.Module):
    """``S = E P^T + b`` of one source; for EPS there is nothing to store.

    The module of the table is held, not the tensor, by a plain attribute: whoever replaces the
    tensor (FSDP, ``functional_call``, a loader, a resized vocabulary) is followed.
    """

    computed: ClassVar[bool] = True
    projection: nn.Parameter | None
    """``[W, F]``."""
    bias: nn.Parameter | None
    """``[W]``."""

    def __init__(
        self, source: Source, owner: nn.Module, *, like: Tensor, projected: bool, column_bias: bool
    ) -> None:
        super().__init__()
        self.source = source
        self.__dict__["owner"] = owner
        self.leaf = source.name.rpartition(".")[2]
        like = like.detach()
        width, factor = source.width, source.stored_dim
        self.projection = nn.Parameter(like.new_empty(width, factor)) if projected else None
        self.bias = nn.Parameter(like.new_zeros(width)) if column_bias else None

    def recipe(
        self,
        plan: SharePlan,
        slots: Sequence[int],
        gains: Sequence[float],
        deviations: Sequence[float],
    ) -> Layout:
        """Which columns are computed, and how they are cut."""
        number = plan.slots[slots[0]].material
        return layout_of(
            [plan.slots[slot] for slot in slots],
            self.source.rows,
            plan.config.order,
            gains=[gains[slot] for slot in slots],
            anchor=plan.config.anchor * deviations[number],
            fixed=self.padding_row(),
        )

    def recipe_key(self) -> int | None:
        """The padding row."""
        return self.padding_row()

    def make(
        self,
        recipe: Layout,
        *,
        scales: Scaled | None = None,
        dtype: torch.dtype | None = None,
        ready: Sequence[Tensor] | None = None,
        keep: Keep | None = None,
    ) -> tuple[Tensor, ...]:
        """The weights of a layout's slots: one projection of the used columns.

        Raises:
            SourceShrunkError, TableReplacedError, OffloadedError: as of `inputs`.
        """
        return derive(recipe, *self.inputs(), scales=scales, dtype=dtype, ready=ready, keep=keep)

    def reset(self, weights: Mapping[int, Tensor], generator: torch.Generator | None) -> None:
        """Draw with variance ``1 / F``, which gives columns the standard deviation of the table."""
        if self.projection is not None:
            std = 1 / math.sqrt(self.source.stored_dim)
            nn.init.normal_(self.projection, std=std, generator=generator)

    def table(self) -> Tensor:
        """``[V' >= V, ...]``: the stored table as it is now."""
        owner: nn.Module = self.__dict__["owner"]
        table = owner._parameters.get(self.leaf)
        return computed(owner, self.leaf) if table is None else table

    def stored(self) -> tuple[Tensor, ...]:
        """What the table is stored as: itself, or all that it is computed from."""
        owner: nn.Module = self.__dict__["owner"]
        table = owner._parameters.get(self.leaf)
        if table is not None:
            return (table,)
        return tuple(makers(owner, self.leaf)) or (self.table(),)

    def trained(self, slot: int | None = None) -> Iterator[Tensor]:
        """Table, projection and bias, as far as there are any: all slots are made of them."""
        yield from (t for t in (*self.stored(), self.projection, self.bias) if t is not None)

    def rest(self, still: Collection[int], moving: Collection[int]) -> Collection[int]:
        """Freeze the projection where the table is frozen, and so are all slots."""
        if moving or self.table().requires_grad:
            return ()
        self.requires_grad_(False)
        return still

    def padding_row(self) -> int | None:
        """The row that an embedding keeps as it is: no gradient of a derived weight reaches it."""
        owner: nn.Module = self.__dict__["owner"]
        found = getattr(owner, "padding_idx", None)
        return found if isinstance(found, int) and 0 <= found < self.source.rows else None

    @passed_over
    def check_place(self, root: nn.Module) -> None:
        """Hold a model to having the table's module where the plan found it, or within it.

        Raises:
            TableReplacedError: it has not.
        """
        owner, path = self.__dict__["owner"], self.source.name.rpartition(".")[0]
        found: nn.Module | None = root
        for part in path.split(".") if path else ():
            found = None if found is None else found._modules.get(part)
            if found is owner:
                return
        if found is owner or (found is not None and any(m is owner for m in found.modules())):
            return  # under a wrapper: an adapter, a compiled module
        if any(module is owner for module in root.modules()):
            return  # moved to another place, or further up under a wrapper
        kind = "it is gone" if found is None else f"`{path}` is another {type(found).__name__} now"
        raise TableReplacedError(source=self.source.name, finding=kind)

    def dtype(self, slot: int = 0) -> torch.dtype:
        """The table's."""
        return self.stored()[0].dtype

    def device(self) -> torch.device:
        """Where weights are derived: the table's, or where it comes from being offloaded."""
        return device_of(self.__dict__["owner"], self.leaf, self.table())

    def matrix(self) -> Tensor:
        """``[V' >= V, F]``: a table of more dimensions, a convolution's weight, as two."""
        table = resident(self.__dict__["owner"], self.leaf, self.table())
        if table.dim() == 2:
            return table
        with torch.enable_grad():  # weights always have a graph, also those derived without one
            return table.flatten(1)

    def place(self) -> None:
        """For a call, let code that reads an offloaded table past its module's hooks find it.

        ``hidden @ self.embed.weight.t()``: torch would multiply with a tensor on meta, in silence.
        """
        owner, table = self.__dict__["owner"], self.table()
        found = resident(owner, self.leaf, table)
        if found is not table and not hasattr(type(owner), self.leaf):
            owner.__dict__[self.leaf] = found

    def evict(self) -> None:
        """Undo `place`."""
        owner: nn.Module = self.__dict__["owner"]
        if self.leaf in owner._parameters:  # else it is what the module itself computed
            owner.__dict__.pop(self.leaf, None)

    def check_values(self, around: Iterable[Tensor]) -> None:
        """Hold a table on meta to being among others on meta.

        Raises:
            OffloadedError: one of those ``around`` has values.
        """
        require_values(self.source.name, [self.table()], around)

    def inputs(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Table as a matrix, projection and bias.

        Raises:
            SourceShrunkError: the table has lost rows that the plan reads.
            TableReplacedError: its parameter is of another width.
            OffloadedError: only some of them have values.
        """
        self._check_size()
        found = self.matrix(), self._resident("projection"), self._resident("bias")
        require_values(self.source.name, found, ())
        return found

    def _resident(self, name: str) -> Tensor | None:
        tensor: Tensor | None = getattr(self, name)
        return None if tensor is None else resident(self, name, tensor)

    def check_saved(self) -> None:
        """Hold the table to being a parameter of the name that the plan has, as in a dense model.

        Raises:
            CheckpointError: its module computes it since the model was shared.
        """
        owner: nn.Module = self.__dict__["owner"]
        if owner._parameters.get(self.leaf) is None and any(True for _ in makers(owner, self.leaf)):
            remove = "torch.nn.utils.parametrize.remove_parametrizations(module, {0!r})"
            if (made := made_by(owner, self.leaf)) == "pruned":
                remove = "torch.nn.utils.prune.remove(module, {0!r})"
            raise CheckpointError(
                path=self.source.name,
                finding=f"is {made} since the model was shared, and a plan reads parameters: no "
                f"model could load what would be written",
                hint=f"Make it a parameter again first, with the values that it has now: "
                f"{remove.format(self.leaf)}. Or call embshare.materialize(model).",
            )

    def _shape(self) -> torch.Size:
        owner: nn.Module = self.__dict__["owner"]
        last = owner.__dict__.get(self.leaf)  # what a hook computed last: stale, but of this shape
        return last.shape if isinstance(last, Tensor) else self.table().shape

    def _check_size(self) -> None:
        shape = self._shape()
        found, rows = shape[0], self.source.rows
        if found < rows:
            raise SourceShrunkError(source=self.source.name, needs=rows, has=found)
        width = math.prod(shape[1:])
        if width != self.source.stored_dim:
            finding = f"its parameter has rows of {width} numbers, not {self.source.stored_dim}"
            raise TableReplacedError(source=self.source.name, finding=finding)

    def fingerprint(self) -> tuple[object, ...]:
        """Changes with every change of a source that torch lets one see."""
        self._check_size()
        return tuple(
            part
            for module, name, tensor in (
                *((self.__dict__["owner"], self.leaf, stored) for stored in self.stored()),
                (self, "projection", self.projection),
                (self, "bias", self.bias),
            )
            if tensor is not None
            for part in stamp(module, name, tensor)
        )

    def memory(self) -> list[Tensor] | None:
        """The bytes of the rows that are read, and of projection and bias.

        None for tables that are computed themselves, and where columns are only copied (EPS),
        unless the checksum is as quick as reading.
        """
        if self.projection is None and not has_fast_sums():
            return None
        table = self.table()
        whole = plain_memory(t for t in (table, self.projection, self.bias) if t is not None)
        if whole is not None:
            whole[0] = whole[0][: whole[0].numel() // table.shape[0] * self.source.rows]
        return whole
