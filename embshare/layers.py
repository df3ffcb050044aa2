"""Layers whose weights are derived: subclasses that can be rebuilt anywhere."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from embshare.cudnn import packed
from embshare.errors import DerivedWeightError
from embshare.state import KEY
from embshare.tracing import passed_over, unseen

__all__ = ["PACKED", "Derived", "SharedLayer", "plain_class", "share_layer", "unshare_layer"]

INDEX = "_embshare_readers"
ORDER = "_embshare_order"
PACKED = "_embshare_packed"


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
            read, index = state[KEY].read, state[INDEX][self.name]
            if torch.compiler.is_compiling():
                return read(index)  # type: ignore[no-any-return]
            return unseen(read, index)  # type: ignore[no-any-return]
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

    def _refuse_derived(self, name: str) -> None:
        if name in self._embshare_names:
            raise DerivedWeightError(
                f"`{name}` of this {type(self).__name__} is derived from a table and cannot be "
                f"assigned. Call embshare.materialize(model) to get plain layers."
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


def share_layer(layer: nn.Module, readers: dict[str, int], bank: nn.Module) -> None:
    """Drop a layer's weights and read them from the bank; only cheap steps that cannot fail."""
    state = layer.__dict__
    state[ORDER] = tuple(layer._parameters)
    for name in readers:
        del layer._parameters[name]
    if isinstance(layer, nn.RNNBase):
        state.pop("_flat_weights", None)
        state.pop("_flat_weight_refs", None)
    state[KEY] = bank
    state[INDEX] = dict(readers)
    layer.__class__ = shared_class(type(layer), tuple(readers))  # type: ignore[arg-type]


def unshare_layer(layer: nn.Module, weights: dict[str, nn.Parameter]) -> None:
    """Give a layer its class and plain parameters back, in their old order."""
    assert isinstance(layer, SharedLayer)
    order: tuple[str, ...] = layer.__dict__.pop(ORDER)
    for key in (KEY, INDEX):
        layer.__dict__.pop(key, None)
    layer.__class__ = cast("type[SharedLayer]", layer._embshare_base)
    kept = dict(layer._parameters) | weights
    layer._parameters.clear()
    layer._parameters.update({name: kept.pop(name) for name in order if name in kept} | kept)
    if isinstance(layer, nn.RNNBase):
        layer._init_flat_weights()
