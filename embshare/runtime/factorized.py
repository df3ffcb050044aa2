"""A factorised embedding: the table is stored ``[V, F]`` and projected where it is used.

The embedding, and every head or embedding tied to it, keeps its class and its ``weight`` of shape
``[V, D]``. That weight is a `Product`: a product that is never multiplied out on the way to logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from embshare.blocks.resident import resident
from embshare.config import ShareConfig
from embshare.errors import DerivedWeightError, UnsupportedSourceError
from embshare.plan.slots import Source

__all__ = [
    "STORED",
    "FactorMap",
    "Factorization",
    "as_factored",
    "as_stored",
    "factorize",
    "is_factored",
    "unfactorize",
]

MAP = "_embshare_factor"
STORED = "_embshare_as_stored"


class FactorMap(nn.Module):
    """``[..., F] -> [..., D]``, and back for a tied head.

    Args:
        source: gives ``F`` and ``D``.
        like: device and dtype.
        norm: LayerNorm before and after, and a bias between, as ShareBERT has.
    """

    def __init__(self, source: Source, like: Tensor, *, norm: bool) -> None:
        super().__init__()
        kind: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.weight = nn.Parameter(torch.empty(source.dim, source.stored_dim, **kind))
        self.bias = nn.Parameter(torch.zeros(source.dim, **kind)) if norm else None
        self.norm_in = nn.LayerNorm(source.stored_dim, **kind) if norm else None
        self.norm_out = nn.LayerNorm(source.dim, **kind) if norm else None

    def forward(self, rows: Tensor) -> Tensor:
        """Rows of the stored table as the model sees them."""
        rows = rows if self.norm_in is None else self.norm_in(rows)
        wide = F.linear(rows, self.weight, self.bias)
        return wide if self.norm_out is None else self.norm_out(wide)

    def back(self, hidden: Tensor) -> Tensor:
        """``[..., D] -> [..., F]``: what a tied head multiplies with the stored table.

        The linear part alone: with norms, a tied head scores against ``E W^T``.
        """
        return hidden @ resident(self, "weight", self.weight)  # called past the hooks


class FactoredWeight:
    """``weight`` of a factorised embedding or head as the model knows it: ``[V, D]``."""

    def __get__(self, module: nn.Module | None, _: type | None = None) -> Any:
        if module is None:
            return self
        table = module._parameters["weight"]
        assert table is not None
        if STORED in module.__dict__ or hasattr(table, "_local_tensor"):  # FSDP asks for its shard
            return table
        return Product.of(resident(module, "weight", table), module.__dict__[MAP])


class Factored(nn.Module):
    """What factorised embeddings and heads have in common."""

    _embshare_base: type[nn.Module]

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        return _rebuild, (self._embshare_base,), self.__dict__.copy()

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "weight":
            super().__setattr__(name, value)
        elif isinstance(value, Product):
            if value.table is not self._parameters["weight"]:
                raise DerivedWeightError(
                    "`weight` is factorised and can only be tied to its own table."
                )
        elif isinstance(value, nn.Parameter) and self._fits(value):
            self._parameters["weight"] = value
        else:
            raise DerivedWeightError(
                "`weight` of a factorised embedding is stored [V, F] and cannot be assigned "
                "a matrix of another width. Call embshare.materialize(model) to get dense layers."
            )

    def _fits(self, table: Tensor) -> bool:
        """Whether this is a stored table (a replaced vocabulary, a shard) and no ``[V, D]``."""
        stored = self._parameters["weight"]
        return stored is None or table.shape[1:] == stored.shape[1:]


class FactoredEmbedding(Factored, nn.Embedding):
    """Looks stored rows up and projects them."""

    def forward(self, input: Tensor) -> Tensor:
        """``[...] -> [..., D]``."""
        table = self._parameters["weight"]
        assert table is not None
        rows = F.embedding(
            input, table, self.padding_idx, None, 2.0, self.scale_grad_by_freq, self.sparse
        )
        wide: Tensor = self.__dict__[MAP](rows)
        return wide.to(table.dtype)  # autocast casts the projection, and no plain embedding


class FactoredHead(Factored, nn.Linear):
    """``x -> F -> V``: never multiplies ``[V, D]`` out."""

    def forward(self, input: Tensor) -> Tensor:
        """``[..., D] -> [..., V]``."""
        table = self._parameters["weight"]
        assert table is not None
        return F.linear(self.__dict__[MAP].back(input), table, self.bias)


@cache
def _factored_class(base: type[nn.Module]) -> type[nn.Module]:
    """Put ``forward`` below that of a subclass, which scales or drops out what it returns."""
    inner = FactoredEmbedding if issubclass(base, nn.Embedding) else FactoredHead
    bases = (inner,) if base in (nn.Embedding, nn.Linear) else (base, inner)
    members = {"weight": FactoredWeight(), "_embshare_base": base, "__module__": __name__}
    members |= {name: getattr(Factored, name) for name in ("__setattr__", "__reduce_ex__")}
    return type(f"Factored{base.__name__}", bases, members)


def _rebuild(base: type[nn.Module]) -> nn.Module:
    cls = _factored_class(base)  # type: ignore[arg-type]
    return cls.__new__(cls)


@dataclass(eq=False)
class Factorization:
    """A factorised table, ready to take the place of a source's parameter in all its modules."""

    source: Source
    table: nn.Parameter
    map: FactorMap
    embedding: nn.Module
    others: tuple[nn.Module, ...]

    @staticmethod
    def prepare(
        source: Source, modules: Mapping[str, nn.Module], config: ShareConfig
    ) -> Factorization:
        """Allocate; the model is not touched.

        Raises:
            UnsupportedSourceError: an embedding with ``max_norm``, which rewrites its own rows.
        """
        owners = [modules[name.rpartition(".")[0]] for name in (source.name, *source.tied)]
        embedding, *others = dict.fromkeys(owners)
        for owner in owners:
            if getattr(owner, "max_norm", None) is not None:
                raise UnsupportedSourceError(
                    source=source.name,
                    need="without `max_norm` to be factorised",
                    finding="with it",
                )
        old = embedding._parameters["weight"]
        assert old is not None
        table = nn.Parameter(
            old.detach().new_empty(old.shape[0], source.stored_dim), requires_grad=old.requires_grad
        )
        made = FactorMap(source, old.detach(), norm=config.factor_norm)
        return Factorization(source, table, made, embedding, tuple(others))

    def reset(self, generator: torch.Generator | None) -> None:
        """Initialise at random: stored and projected rows deviate as the table did."""
        nn.init.normal_(self.table, std=self.source.spread, generator=generator)
        std = 1 / math.sqrt(self.source.stored_dim)
        nn.init.normal_(self.map.weight, std=std, generator=generator)
        padding = getattr(self.embedding, "padding_idx", None)
        if padding is not None and self.table.device.type != "meta":
            with torch.no_grad():
                self.table[padding].zero_()


def factorize(made: Factorization) -> None:
    """Put the stored table into the embedding and everything tied to it; nothing here can fail."""
    for module in (made.embedding, *made.others):
        module._parameters["weight"] = made.table
        module.__dict__[MAP] = made.map
        module.__class__ = _factored_class(type(module))  # type: ignore[arg-type]
    made.embedding.add_module("factor", made.map)


def unfactorize(module: nn.Module, weight: nn.Parameter) -> None:
    """Give an embedding or head its class and a plain ``[V, D]`` weight back."""
    assert hasattr(module, "_embshare_base")
    module._modules.pop("factor", None)
    for key in (MAP, STORED):
        module.__dict__.pop(key, None)
    module.__class__ = cast("type[nn.Module]", module._embshare_base)
    module._parameters["weight"] = weight


def is_factored(module: nn.Module) -> bool:
    """Whether this is a factorised embedding or head."""
    return MAP in module.__dict__


def as_stored(module: nn.Module) -> None:
    """Let a factorised embedding's ``weight`` be its stored ``[V, F]`` parameter.

    For loaders and resizers, which know the table by that name and find what a checkpoint holds;
    and for good where a model's own code never reads it as ``[V, D]``.
    """
    assert is_factored(module)
    module.__dict__[STORED] = True


def as_factored(module: nn.Module) -> None:
    """Undo `as_stored`."""
    assert is_factored(module)
    module.__dict__.pop(STORED, None)


_GETTERS = (
    "shape dtype device requires_grad ndim layout is_leaf is_cuda is_sparse is_meta "
    "is_quantized is_nested grad_fn grad"
)
_METHODS = "size dim numel element_size is_floating_point is_complex stride data_ptr __len__"
_METADATA = {getattr(Tensor, name).__get__ for name in _GETTERS.split()}
_METADATA |= {getattr(Tensor, name) for name in _METHODS.split()}
_SET_DATA = getattr(Tensor, "data").__set__  # noqa: B009 (mypy knows no descriptor here)
_TRANSPOSES = {Tensor.t, torch.t} | {getattr(Tensor, name).__get__ for name in ("T", "mT")}
_MATMULS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}


# Why: docs/explanation/decisions/factor-product.md
class Product(Tensor):
    """``weight`` of a factorised embedding: ``map(table)``, multiplied out only if need be.

    ``F.linear(x, weight)``, ``x @ weight.t()`` and ``F.embedding(ids, weight)`` go through the
    factor; every other operation sees the plain ``[V, D]`` matrix, with its gradient.
    """

    table: Tensor
    map: FactorMap
    transposed: bool
    _is_param = True  # code that ties weights asks isinstance(weight, nn.Parameter)

    @staticmethod
    def of(table: Tensor, factor: FactorMap, transposed: bool = False) -> Tensor:
        """The product; under a tracer the plain matrix."""
        if torch.compiler.is_compiling():
            return factor(table)  # type: ignore[no-any-return]
        shape = (table.shape[0], factor.weight.shape[0])
        product: Product = Tensor._make_wrapper_subclass(
            Product,
            shape[::-1] if transposed else shape,
            dtype=table.dtype,
            device=table.device,
            requires_grad=table.requires_grad,
        )
        product.table, product.map, product.transposed = table, factor, transposed
        return product

    def plain(self) -> Tensor:
        """The matrix, multiplied out, differentiable."""
        wide: Tensor = self.map(self.table)
        return wide.t() if self.transposed else wide

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.data_ptr:  # accelerate finds tied tensors by it
            return args[0].table.data_ptr()
        if func in _METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func == _SET_DATA:  # a new wrapper at each look-up
            return _set_data(args[0], args[1])
        if func in _TRANSPOSES and len(args) == 1:
            return Product.of(args[0].table, args[0].map, not args[0].transposed)
        result = _short_way(func, args, kwargs)
        if result is not None:
            return result
        args, kwargs = tree_map(_plain_matrix, (args, kwargs))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten.detach.default:
            return args[0].plain().detach()
        args, kwargs = tree_map(_plain_matrix, (args, dict(kwargs or {})))
        return func(*args, **kwargs)


def _plain_matrix(value: Any) -> Any:
    return value.plain() if isinstance(value, Product) else value


def _short_way(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Through the factor, where the operation allows; None where it does not."""
    if func is F.embedding:
        names = (
            "input",
            "weight",
            "padding_idx",
            "max_norm",
            "norm_type",
            "scale_grad_by_freq",
            "sparse",
        )
        given = dict(zip(names, args, strict=False)) | kwargs
        weight = given.pop("weight")
        if isinstance(weight, Product) and not weight.transposed and not given.get("max_norm"):
            return weight.map(F.embedding(weight=weight.table, **given))
    if func is F.linear:
        given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        weight = given["weight"]
        if (
            isinstance(weight, Product)
            and not weight.transposed
            and not isinstance(given["input"], Product)
        ):
            return F.linear(weight.map.back(given["input"]), weight.table, given.get("bias"))
    if func in _MATMULS and len(args) == 2 and not kwargs:
        hidden, weight = args
        if isinstance(weight, Product) and weight.transposed and not isinstance(hidden, Product):
            return weight.map.back(hidden) @ weight.table.t()
    return None


@torch.no_grad()
def _set_data(product: Product, value: Tensor) -> None:
    """A resized vocabulary: old rows stay as stored, new ones are the nearest there are."""
    rows = min(product.table.shape[0], value.shape[0])
    factor = product.map
    if factor.norm_in is not None or product.transposed or value.dim() != 2:
        raise RuntimeError(
            "`weight` of a factorised embedding with norms cannot be written; resize its table."
        )
    kept = product.table.data[:rows]
    exact = torch.promote_types(kept.dtype, torch.float32)  # torch solves in no half precision
    added = value[rows:].to(exact)
    fitted = torch.linalg.lstsq(factor.weight.to(exact), added.t()).solution.t()
    product.table.data = torch.cat([kept, fitted.to(kept.dtype)])
