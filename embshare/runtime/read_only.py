"""What a derived weight is when it is read outside of a call: a tensor that nobody can write into.

Such a weight is made for its reader alone and gone with it: what an initialiser, a clamp or an
optimizer wrote into it would be lost. So writing raises, also through ``.data``, ``detach()`` and
views. Everything else gives plain tensors, with their graph. Inside of a call, and under tracers
and functional transforms, weights are plain tensors throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from embshare._warnings import notify
from embshare.errors import DerivedWeightError, UnusedHookWarning

__all__ = ["ReadOnly"]

_WRITING: Final = frozenset(
    f"__{name}__"
    for name in (
        *("setitem", "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"),
        *("iand", "ior", "ixor", "ilshift", "irshift"),
    )
)
_SETTERS: Final = frozenset(
    getattr(Tensor, name).__set__ for name in ("data", "requires_grad", "grad")
)
_WATCHING: Final = frozenset(
    getattr(Tensor, name)
    for name in ("register_hook", "retain_grad", "register_post_accumulate_grad_hook")
)
_GRAD: Final[Any] = getattr(Tensor, "grad").__get__  # noqa: B009 (mypy knows no descriptor here)
_NUMPY: Final[frozenset[Any]] = frozenset((Tensor.numpy, Tensor.__array__))


# Why: docs/explanation/decisions/read-only-weights.md
class ReadOnly(Tensor):
    """A derived weight, or a view of one, that raises `DerivedWeightError` when it is written."""

    __slots__ = ("_derived",)  # `torch.utils.swap_tensors` asks nothing else before it swaps

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if _writes(func, name, kwargs) and any(
            isinstance(t, ReadOnly) for t in _targets(args, kwargs)
        ):
            raise _lost(name)
        if (func in _WATCHING or func == _GRAD) and isinstance(args[0], ReadOnly):
            notify(
                "a derived weight is another tensor at each call: a hook on the one that was read "
                "here runs only where this very tensor is used, and `.grad` is None. Look at the "
                "gradients of the table and of the bank, or materialize the model.",
                UnusedHookWarning,
            )
        with torch._C.DisableTorchFunctionSubclass():
            plain_args, plain_kwargs = tree_map_only(ReadOnly, _plain, (args, kwargs))
            if func == _GRAD:
                return None if plain_args[0].is_leaf else _quiet_grad(plain_args[0])
            found = func(*plain_args, **plain_kwargs)
            if func in _NUMPY:
                found.flags.writeable = False
                return found
            return tree_map_only(Tensor, lambda t: _guard_view(t, plain_args), found)

    def set_(self, *_: Any) -> Any:
        """Refused here, as torch calls it without asking `__torch_function__`.

        Raises:
            DerivedWeightError: always.
        """
        raise _lost("set_")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _plain(self).__reduce_ex__(protocol)


def _lost(name: str) -> DerivedWeightError:
    return DerivedWeightError(
        f"`{name.strip('_') or 'writing'}` would write into a weight that is derived from "
        f"a table, and be lost with the next call, or is a block that other layers read too. "
        f"Write into the table or the block (`embshare_bank.blocks`), share after the weights "
        f"were written, or make them parameters: embshare.materialize(model), or "
        f"embshare.freeze(model, pattern) for those that shall stay as they are."
    )


def _quiet_grad(tensor: Tensor) -> Tensor | None:
    """The gradient that a hook retained; torch would warn of the others, as we did."""
    return tensor.grad if tensor.retains_grad else None


def _writes(func: Callable[..., Any], name: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether a function writes: by torch's convention, a single underscore at its name's end."""
    if isinstance(kwargs.get("out"), ReadOnly):
        return True
    return name in _WRITING or func in _SETTERS or (name[-1:] == "_" and name[-2:] != "__")


def _targets(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Any]:
    """What a function may write: its first argument, of `_foreach` functions each of it, `out`."""
    first = args[0] if args else next(iter(kwargs.values()), None)
    yield from first if isinstance(first, (list, tuple)) else (first,)
    yield kwargs.get("out")


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor)


def _guard_view(tensor: Tensor, inputs: Sequence[Any]) -> Tensor:
    """A result that lies in the memory of an input is as read-only as that is."""
    if tensor.device.type == "meta":
        return tensor
    pointer = tensor.untyped_storage().data_ptr()
    for value in inputs:
        if isinstance(value, Tensor) and value.untyped_storage().data_ptr() == pointer:
            return tensor.as_subclass(ReadOnly)
    return tensor
