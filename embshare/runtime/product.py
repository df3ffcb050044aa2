"""A matrix known as a product: reads like ``[V, D]``, multiplies like ``[V, F]`` and ``[F, D]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils._pytree import tree_map

if TYPE_CHECKING:
    from embshare.runtime.factorized import FactorMap

__all__ = ["Product"]

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
        args, kwargs = tree_map(_plain, (args, kwargs))
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
        args, kwargs = tree_map(_plain, (args, dict(kwargs or {})))
        return func(*args, **kwargs)


def _plain(value: Any) -> Any:
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
