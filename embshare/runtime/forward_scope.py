"""A call into a module that holds shared layers: between two words with the bank.

Hooks would do it too, but they put every such module on `nn.Module`'s slow path, in each call. So
the module's ``forward`` is covered by an object in its own ``__dict__``. It runs after hooks that
gather parameters (FSDP's), and inside of whatever covers ``forward`` later (accelerate's).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from embshare._keys import HELD, KEY, ROOT
from embshare._warnings import warn_frozen
from embshare.ops.tracing import compiled_apart, may_wait, passed_over, unseen
from embshare.runtime.current_plan import frozen_layers

if TYPE_CHECKING:
    from embshare.runtime.bank import Bank, BankRef
    from embshare.runtime.derivation_cache import DerivationCache

__all__ = ["Call", "close_calls", "open_calls"]

OWN = "_embshare_forward"
"""The ``forward`` that an instance had itself, where it had one."""


# Why: docs/explanation/decisions/calls-without-hooks.md
def open_calls(module: nn.Module, ref: BankRef, held: tuple[int, ...]) -> None:
    """Let the bank know of each call into a module whose layers hold the readers ``held``."""
    state = module.__dict__
    state[KEY], state[HELD] = ref, held
    if "forward" in state:
        state[OWN] = state["forward"]
    state["forward"] = Call(_run, module)


def close_calls(module: nn.Module) -> None:
    """Undo `open_calls`; a cover that was put over the call runs what is below it."""
    state = module.__dict__
    for key in (KEY, HELD):
        state.pop(key, None)
    if isinstance(state.get("forward"), Call):
        del state["forward"]
        if OWN in state:
            state["forward"] = state.pop(OWN)


@passed_over
def _run(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    """A module's forward, with its weights in place.

    A compiler that waits begins below: with all of the call where that derives all weights, else
    with the forward alone, and has the weights given.
    """
    ref: BankRef | None = module.__dict__.get(KEY)
    if ref is None:
        return covered(module)(*args, **kwargs)
    bank = ref.get()
    cache = bank.cache
    if torch.compiler.is_compiling():
        return _call(module, cache, _forward, args, kwargs)
    if ROOT in module.__dict__:
        bank.check_tables(module)
        if torch.is_grad_enabled() and not cache.keeper.blocks:
            unseen(_warn_frozen, module, bank)
    if may_wait():
        return _watched(module, cache, args, kwargs)
    outermost = cache.enter(module)
    try:
        return covered(module)(*args, **kwargs)
    finally:
        if outermost:
            cache.leave()


@passed_over
def _warn_frozen(model: nn.Module, bank: Bank) -> None:
    """Look at calls 1, 2, 4, 8, … of the model whether layers were frozen that still move."""
    cache = bank.cache
    if cache.calls < 0:
        return
    cache.calls += 1
    if cache.calls & (cache.calls - 1) == 0 and (names := frozen_layers(model, bank)):
        cache.calls = -1  # once is enough
        warn_frozen(names)


@passed_over
def _watched(
    module: nn.Module, cache: DerivationCache, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A call that a compiler may want to begin with, or with a frame below."""
    name = type(module).__qualname__
    call = _call if cache.gives_weights(module) else compiled_apart(_call, name)
    torchs = type(module).forward.__module__.startswith("torch.nn.")  # where no compiler begins
    forward = compiled_apart(_forward, name) if torchs else _forward
    return call(module, cache, forward, args, kwargs)


@passed_over
def _call(
    module: nn.Module,
    cache: DerivationCache,
    forward: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    outermost, tracing = False, torch.compiler.is_compiling()
    try:  # all of it, or a compiler that has to stop inside would stop in front, with half a call
        outermost = cache.enter(module) if tracing else unseen(cache.enter, module)
        return forward(module, args, kwargs)
    finally:
        if outermost and tracing:
            cache.leave()
        elif outermost:
            unseen(cache.leave)


@passed_over
def _forward(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if OWN in module.__dict__:
        return module.__dict__[OWN](*args, **kwargs)
    return type(module).forward(module, *args, **kwargs)


def covered(module: nn.Module) -> Callable[..., Any]:
    """What a call runs, as a bound method."""
    own: Callable[..., Any] | None = module.__dict__.get(OWN)
    return MethodType(type(module).forward, module) if own is None else own


class Call(functools.partial[Any]):
    """`_run` of one module, which passes for that module's bound ``forward``.

    A partial, since copies and pickles of it follow their module, and since tracers know it.
    """

    __name__ = "forward"

    @property
    def __self__(self) -> nn.Module:
        module: nn.Module = self.args[0]
        return module

    @property
    def __func__(self) -> Callable[..., Any]:
        """For wrappers that take a method apart and bind what they made of it."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            return _run(*args, **kwargs)

        parameters = self.__signature__.parameters.values()
        first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        if any(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in parameters):
            first = first.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
        signature = self.__signature__.replace(parameters=[first, *parameters])
        forward.__signature__ = signature  # type: ignore[attr-defined]
        return forward

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(covered(self.__self__))

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return covered(self.__self__).__doc__
