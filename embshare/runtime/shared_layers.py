"""Layers whose weights are derived: subclasses that can be rebuilt anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from embshare._keys import DTYPE, KEY, PACKED
from embshare._warnings import warn_nothing_to_freeze
from embshare.errors import DerivedWeightError
from embshare.ops.cudnn import packed
from embshare.ops.tracing import passed_over, unseen
from embshare.runtime.bank import Bank, BankRef
from embshare.runtime.read_only import ReadOnly

__all__ = [
    "INDEX",
    "Derived",
    "SharedLayer",
    "derived_names",
    "dtype_of",
    "parameter_order",
    "plain_class",
    "share_layer",
    "shared_class",
    "unshare_layer",
]

INDEX = "_embshare_readers"
ORDER = "_embshare_order"


class Derived:
    """A weight that is asked for from the bank.

    It has no ``__set__``: what the bank puts into the instance's ``__dict__`` during a call is
    found first, at the price of a dictionary look-up.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @passed_over
    def __get__(self, layer: nn.Module | None, _: type | None = None) -> Tensor | Self:
        if layer is None:
            return self
        state = layer.__dict__
        try:
            ref: BankRef = state[KEY]
            look, index = ref.get().cache.look, state[INDEX][self.name]
            return look(index) if torch.compiler.is_compiling() else unseen(look, index)
        except AttributeError as error:  # nn.Module would hide it behind "has no attribute"
            raise DerivedWeightError(f"`{self.name}` cannot be derived: {error}") from error


class SharedLayer(nn.Module):
    """What every class with derived weights has besides its own base."""

    _embshare_names: ClassVar[tuple[str, ...]] = ()
    _embshare_base: ClassVar[type[nn.Module]]

    def __reduce_ex__(self, _: Any) -> tuple[Any, ...]:
        names = (*self._embshare_names, PACKED)
        state = {k: _leaf(v) for k, v in self.__dict__.items() if k not in names}
        return _rebuild, (self._embshare_base, self._embshare_names), state

    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse_derived(name)
        super().__setattr__(name, value)

    def register_parameter(self, name: str, param: Any) -> None:
        """Register a parameter that is stored.

        Raises:
            DerivedWeightError: it is a derived weight, or one under a new name, as pruning wants.
        """
        self._refuse_derived(name)
        if isinstance(param, ReadOnly):
            raise DerivedWeightError(
                f"`{name}` of this {type(self).__name__} cannot be a parameter: it is a weight "
                f"that is derived from a table. Prune, or parametrize, before sharing, or call "
                f"embshare.materialize(model) first."
            )
        super().register_parameter(name, param)

    def reset_parameters(self) -> None:
        """Refuse: nothing would remember what was drawn.

        Raises:
            DerivedWeightError: always; biases alone are reset by ``nn.init.zeros_(layer.bias)``.
        """
        raise DerivedWeightError(
            f"the weights of this {type(self).__name__} are derived from a table (or are blocks "
            f"that layers share) and cannot be reset. Reset the model before it is shared, or "
            f"share the reset one again."
        )

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set ``requires_grad`` of what the layer stores; warn where there is nothing to freeze."""
        ref: BankRef = self.__dict__[KEY]
        stores = any(True for _ in self.parameters())
        if not requires_grad and not stores and ref.bank is not None and ref.bank.trains():
            warn_nothing_to_freeze(type(self).__name__)
        return super().requires_grad_(requires_grad)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        bank = self.__dict__[KEY].bank
        if bank is None:  # an unpickled part, whose weights cannot be read either
            return cast("Self", super()._apply(fn, recurse))  # type: ignore[no-untyped-call]
        before: torch.dtype = self.__dict__.get(DTYPE) or dtype_of(bank, self)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        after = fn(torch.empty(1, dtype=before)).dtype
        if after is not before:  # a cast of this layer, and perhaps not of the table
            self.__dict__[DTYPE] = after
            bank.mixed = True
        return self

    def _refuse_derived(self, name: str) -> None:
        if name == "qconfig":  # torch.ao sets it in all modules of its copy, and skips these
            raise DerivedWeightError(
                f"torch.ao would leave this {type(self).__name__} as it is: its weights are "
                f"derived from a table. Call embshare.materialize(model) first, and quantise the "
                f"materialized model."
            )
        if name in self._embshare_names:
            raise DerivedWeightError(
                f"`{name}` of this {type(self).__name__} is derived from a table (or is a block "
                f"that layers share) and cannot be assigned. Call embshare.materialize(model) to "
                f"get dense layers."
            )

    def _replicate_for_data_parallel(self) -> Self:
        raise DerivedWeightError(
            "nn.DataParallel copies layers without their bank. Use DistributedDataParallel."
        )

    def extra_repr(self) -> str:
        """The base's, and which weights are derived."""
        derived = f"derived={', '.join(self._embshare_names)}"
        base = super().extra_repr()
        return f"{base}, {derived}" if base else derived


def _leaf(value: Any) -> Any:
    """What a hook computed (the older weight norm's ``weight``) is copied without its graph."""
    return value.detach() if isinstance(value, Tensor) and not value.is_leaf else value


class SharedRNN(SharedLayer):
    """Recurrent modules hand torch a flat list of weights; here it is asked for at every call."""

    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse_derived(name)
        nn.Module.__setattr__(self, name, value)  # past nn.RNNBase, which would fill that list

    @property
    @passed_over
    def _flat_weights(self) -> list[Tensor]:
        weights = [getattr(self, name) for name in self.__dict__["_flat_weights_names"]]
        if weights[0].is_cuda and not torch.compiler.is_compiling():
            return unseen(self._packed, weights)
        return weights

    @_flat_weights.setter
    def _flat_weights(self, _: list[Tensor]) -> None:
        """What nn.RNNBase assigns would be stale by the next step."""

    def _packed(self, weights: list[Tensor]) -> list[Tensor]:
        first, ready = cast(
            "tuple[Tensor | None, list[Tensor]]", self.__dict__.get(PACKED, (None, []))
        )
        if first is not weights[0]:
            ready = packed(cast("nn.RNNBase", self), weights)
            if self._embshare_names[0] in self.__dict__:  # inside a call, whose end takes it out
                self.__dict__[PACKED] = (weights[0], ready)
        return ready

    def flatten_parameters(self) -> None:
        """Nothing to flatten: derived weights are packed for cuDNN once per derivation."""

    def _init_flat_weights(self) -> None:
        """Nothing to keep: the list is asked for at every call."""

    def _update_flat_weights(self) -> None:
        """Nothing to keep: the list is asked for at every call."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        nn.Module.__setstate__(self, state)


@cache
def shared_class(base: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    """The subclass of ``base`` whose ``names`` are derived; the same class for equal arguments."""
    mixin = SharedRNN if issubclass(base, nn.RNNBase) else SharedLayer
    members: dict[str, Any] = {name: Derived(name) for name in names}
    members |= {"_embshare_names": names, "_embshare_base": base, "__module__": __name__}
    members["__doc__"] = base.__doc__
    return type(f"Shared{base.__name__}", (mixin, base), members)


def _rebuild(base: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
    cls = shared_class(base, names)  # type: ignore[arg-type]
    return cls.__new__(cls)


def plain_class(layer: nn.Module) -> type[nn.Module]:
    """The class that a layer had before its weights were derived."""
    return layer._embshare_base if isinstance(layer, SharedLayer) else type(layer)


def share_layer(layer: nn.Module, readers: Mapping[str, int], ref: BankRef) -> None:
    """Drop a layer's weights and read them from the bank; only cheap steps that cannot fail.

    A layer that has derived weights already gets these besides.
    """
    state = layer.__dict__
    if not isinstance(layer, SharedLayer):
        state[ORDER] = tuple(layer._parameters)
    for name in readers:
        parameter = layer._parameters.pop(name)
        if parameter is not None:
            state[DTYPE] = parameter.dtype
    if isinstance(layer, nn.RNNBase):
        state.pop("_flat_weights", None)
        state.pop("_flat_weight_refs", None)
    state[KEY] = ref
    state[INDEX] = state.get(INDEX, {}) | dict(readers)
    names = tuple(name for name in state[ORDER] if name in state[INDEX])
    layer.__class__ = shared_class(plain_class(layer), names)  # type: ignore[arg-type]


def unshare_layer(layer: nn.Module, weights: Mapping[str, nn.Parameter]) -> None:
    """Give a layer plain parameters back, in their old order, and its class with the last."""
    assert isinstance(layer, SharedLayer)
    state, base = layer.__dict__, layer._embshare_base
    order: tuple[str, ...] = state[ORDER]
    left = tuple(name for name in layer._embshare_names if name not in weights)
    for name in weights:
        state[INDEX].pop(name)
        state.pop(name, None)
    kept = dict(layer._parameters) | dict(weights)
    layer._parameters.clear()
    layer._parameters.update({name: kept.pop(name) for name in order if name in kept} | kept)
    if left:
        layer.__class__ = cast("type[SharedLayer]", shared_class(base, left))  # type: ignore[arg-type]
        return
    for key in (KEY, INDEX, ORDER, DTYPE):
        state.pop(key, None)
    layer.__class__ = cast("type[SharedLayer]", base)
    if isinstance(layer, nn.RNNBase):
        layer._init_flat_weights()


def derived_names(layer: nn.Module) -> Mapping[str, int]:
    """A layer's derived weights, in the order of its class, and the readers that they are."""
    return layer.__dict__.get(INDEX, {}) if isinstance(layer, SharedLayer) else {}


def parameter_order(layer: nn.Module) -> tuple[str, ...]:
    """Names of a layer's own parameters, derived ones included, as the dense layer lists them."""
    own = tuple(layer._parameters)
    order: tuple[str, ...] = layer.__dict__.get(ORDER, own)
    return (*order, *(name for name in own if name not in order))


def dtype_of(bank: Bank, layer: nn.Module) -> torch.dtype:
    """Dtype of a layer's derived weights, if nothing but what they are made of decides it."""
    slot = bank.readers[next(iter(derived_names(layer).values()))].slot
    return bank.material(slot).dtype(slot)
