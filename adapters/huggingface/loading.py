"""Integration with transformers that knows which weights were loaded by `from_pretrained`.

``config._name_or_path`` does not tell: a model that is built anew from the configuration of a
loaded one has it too. So each layer of a loaded model remembers which of its parameters no file
had, in an attribute that copies and pickles of the layer keep, and that a layer put in later lacks.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from torch import nn

__all__ = ["attach", "detach", "introduce", "trained"]

ABSENT: Final = "_embshare_absent"
"""Names of a layer's own parameters that its loading did not find; a layer that was not loaded has
no such attribute."""

FLAG: Final = "_is_hf_initialized"
"""Attribute of a parameter that transformers 5 has loaded, which copies lose. It tells of
models that were loaded before embshare was imported."""


def introduce() -> None:
    """Have every model that is loaded from now on remember it."""
    base = sys.modules["transformers.modeling_utils"].PreTrainedModel
    plain = inspect.getattr_static(base, "from_pretrained").__func__
    if not hasattr(plain, ABSENT):  # 4.57 has it wrapped by itself
        base.from_pretrained = classmethod(_remembering(plain))


def attach(model: nn.Module) -> None:
    """Do nothing: a layer remembers, whatever is done to it."""


def detach(model: nn.Module) -> None:
    """Do nothing."""


def trained(model: nn.Module) -> Iterator[str]:
    """Full names of the parameters that came out of a file."""
    for path, layer in model.named_modules(remove_duplicate=False):
        absent = layer.__dict__.get(ABSENT)
        for name, parameter in layer._parameters.items():
            loaded = getattr(parameter, FLAG, False) if absent is None else name not in absent
            if parameter is not None and loaded:
                yield f"{path}.{name}".removeprefix(".")


def _remembering(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def from_pretrained(
        cls: type, *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        model, info = plain(cls, *args, output_loading_info=True, **kwargs)
        found = info or {}  # 4.57 has none for weights of Flax
        mismatched = {entry[0] for entry in found.get("mismatched_keys", ())}
        _remember(model, {*found.get("missing_keys", ()), *mismatched})
        return (model, info) if output_loading_info else model

    setattr(from_pretrained, ABSENT, True)
    return from_pretrained


def _remember(model: nn.Module, absent: Collection[str]) -> None:
    for path, layer in model.named_modules():
        prefix = f"{path}." if path else ""
        names = layer._parameters
        layer.__dict__[ABSENT] = frozenset(name for name in names if prefix + name in absent)
