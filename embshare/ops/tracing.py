"""Which frames of a call a compiler may begin with.

A compiler begins at the first Python frame that it meets, takes in whatever that frame calls, and
gives a frame up as a whole where something inside of its ``try`` cannot be taken in. Then it begins
again at each frame below. Two things must not become such beginnings: the frame that decides
whether weights are there already, and the bank's own work, whose pieces would be compiled one by
one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import CodeType, FunctionType
from typing import Any, Final, ParamSpec, TypeVar, cast

import torch
from torch.autograd import forward_ad

__all__ = [
    "compiled_apart",
    "computed_once",
    "introduce",
    "may_wait",
    "must_be_plain",
    "passed_over",
    "runs_now",
    "unseen",
]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_PASSED_OVER: Final[list[CodeType]] = []


def passed_over(function: F) -> F:
    """Let no compilation begin at this function; inside of another frame it is taken in."""
    _PASSED_OVER.append(cast("FunctionType", function).__code__)
    return function


_COMPUTED_ONCE: Final[list[Callable[..., Any]]] = []


def computed_once(function: F) -> F:
    """Have a compiler call this function while it traces, and take what it returns for constant.

    Its arguments must be constants too.
    """
    _COMPUTED_ONCE.append(function)
    return function


def _plainly(function: Callable[..., R], *args: Any) -> R:
    return function(*args)


_away = _plainly


def introduce() -> None:
    """Tell the compiler about us; called when it is imported, by `embshare.integrations`.

    torch's own decorator of what is passed over, ``disable(recursive=False)``, breaks every graph
    that takes the function in.
    """
    from torch._dynamo.eval_frame import skip_code

    global _away
    for code in _PASSED_OVER:
        skip_code(code)
    for function in _COMPUTED_ONCE:
        torch.compiler.assume_constant_result(function)
    _away = torch.compiler.disable(_plainly)


@passed_over
def may_wait() -> bool:
    """Whether a compiler may be waiting for a frame: not before it has been imported."""
    return _away is not _plainly


@passed_over
def unseen(function: Callable[..., R], *args: Any) -> R:
    """Call a function, and have the compiler, where one waits for a frame, pass it all over.

    Not to be called while a compiler traces.
    """
    return _away(function, *args)


@cache
@passed_over
def compiled_apart(function: Callable[P, R], _: str) -> Callable[P, R]:
    """A copy of a function for one name.

    The compiler remembers what it made of a function by the code object, in eight versions at
    most, which the modules of all models would share.
    """
    made = cast("FunctionType", function)
    code = made.__code__.replace()
    return cast("Callable[P, R]", FunctionType(code, made.__globals__, made.__name__))


def must_be_plain() -> bool:
    """Whether a tracer or a functional transform has to see plain operations."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
        or forward_ad._current_level >= 0
    )


def runs_now() -> bool:
    """Whether operations give ordinary tensors at once, and nobody watches them.

    Fake tensors and counters of operations are dispatch modes, which have to see a derivation.
    """
    return not must_be_plain() and torch._C._len_torch_dispatch_stack() == 0
