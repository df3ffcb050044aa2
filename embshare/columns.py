"""One source's columns: a table that the model owns, and the projection that the bank owns."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from embshare.errors import SourceShrunkError, TableReplacedError
from embshare.offloading import device_of, require_values, resident, stamp
from embshare.plan import Source

__all__ = ["Columns"]


class Columns(nn.Module):
    """``S = E P^T + b`` of one source; for EPS there is nothing to store.

    The module of the table is held, not the tensor, by a plain attribute: whoever replaces the
    tensor (FSDP, ``functional_call``, a loader, a resized vocabulary) is followed.
    """

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

    def reset(self, generator: torch.Generator | None) -> None:
        """Variance ``1 / F``: columns as spread as the table."""
        if self.projection is not None:
            std = 1 / math.sqrt(self.source.stored_dim)
            nn.init.normal_(self.projection, std=std, generator=generator)

    def table(self) -> Tensor:
        """``[V' >= V, ...]``: the stored table as it is now, without what pruning has masked."""
        owner: nn.Module = self.__dict__["owner"]
        table = owner._parameters.get(self.leaf)
        if table is None and (pruned := self._pruned()):
            with torch.enable_grad():
                return pruned[0] * pruned[1]
        return getattr(owner, self.leaf) if table is None else table

    def _pruned(self) -> tuple[Tensor, Tensor] | None:
        """What `torch.nn.utils.prune` makes of a parameter; its product is of the last call."""
        owner: nn.Module = self.__dict__["owner"]
        original = owner._parameters.get(f"{self.leaf}_orig")
        mask = owner._buffers.get(f"{self.leaf}_mask")
        return None if original is None or mask is None else (original, mask)

    def trained(self) -> Iterator[Tensor]:
        """Table, projection and bias, as far as there are any."""
        yield from (t for t in (self.table(), self.projection, self.bias) if t is not None)

    def padding_row(self) -> int | None:
        """The row that an embedding keeps as it is: no gradient of a derived weight reaches it."""
        owner: nn.Module = self.__dict__["owner"]
        found = getattr(owner, "padding_idx", None)
        return found if isinstance(found, int) and 0 <= found < self.source.rows else None

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

    def dtype(self) -> torch.dtype:
        """The table's."""
        return self.table().dtype

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

    def _check_size(self) -> None:
        table = self.table()
        found, rows = table.shape[0], self.source.rows
        if found < rows:
            raise SourceShrunkError(source=self.source.name, needs=rows, has=found)
        width = math.prod(table.shape[1:])
        if width != self.source.stored_dim:
            finding = f"its parameter has rows of {width} numbers, not {self.source.stored_dim}"
            raise TableReplacedError(source=self.source.name, finding=finding)

    def fingerprint(self) -> tuple[object, ...]:
        """Changes with every change of a source that torch lets one see."""
        self._check_size()
        owner, pruned = self.__dict__["owner"], self._pruned()
        tables = (self.table(),) if pruned is None else pruned
        return tuple(
            part
            for module, name, tensor in (
                *((owner, self.leaf, table) for table in tables),
                (self, "projection", self.projection),
                (self, "bias", self.bias),
            )
            if tensor is not None
            for part in stamp(module, name, tensor)
        )
