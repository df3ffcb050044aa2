"""Companions: what embshare does for another package as soon as that package is there.

A companion is a module with three functions. `introduce` is called once, when the package has been
imported, before or after embshare; `attach` is called on each model that was shared, and `detach`
on each that was made plain again. The package is never imported on its behalf, and neither is the
companion before the package.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import Final, Protocol, cast

from torch import nn

__all__ = ["COMPANIONS", "Companion", "attach", "detach", "watch"]


class Companion(Protocol):
    """What a companion's module holds."""

    def introduce(self) -> None:
        """Tell the package about embshare; called again, it does nothing."""
        ...

    def attach(self, model: nn.Module) -> None:
        """Give a model that was just shared what the package expects of it."""
        ...

    def detach(self, model: nn.Module) -> None:
        """Undo `attach`."""
        ...


COMPANIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "transformers.quantizers.auto": "embshare.adapters.huggingface.companion",
        "peft.tuners.tuners_utils": "embshare.adapters.huggingface.merging",
    }
)
"""Module of a package -> its companion. Named, not imported, as layer kinds are."""

_INTRODUCED: Final[Mapping[str, str]] = MappingProxyType(
    {**COMPANIONS, "torch._dynamo": "embshare.tracing"}
)
"""With torch's compiler, whose module is slow to import and is shown no models."""


def watch(companions: Mapping[str, str] = _INTRODUCED) -> None:
    """Introduce each companion: now where its module is imported, else when it will be."""
    absent = {module: place for module, place in companions.items() if module not in sys.modules}
    for module in companions.keys() - absent.keys():
        _companion(companions[module]).introduce()
    if absent:
        sys.meta_path.insert(0, _Watch(absent))


def attach(model: nn.Module) -> None:
    """Show a model that was just shared to every companion whose package is there."""
    for companion in _present():
        companion.attach(model)


def detach(model: nn.Module) -> None:
    """Show a model that is no longer shared to every companion whose package is there."""
    for companion in _present():
        companion.detach(model)


def _present() -> Iterator[Companion]:
    for module, place in COMPANIONS.items():
        if module in sys.modules:
            yield _companion(place)


def _companion(place: str) -> Companion:
    return cast("Companion", importlib.import_module(place))


class _Watch(MetaPathFinder):
    """Finds nothing itself: lets the others find a module, and introduces it when it has run."""

    def __init__(self, companions: Mapping[str, str]) -> None:
        self.companions = companions

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.companions:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            run = _then(spec.loader.exec_module, self.companions[name])
            # In this one loader, which otherwise stays what its package and its readers expect.
            spec.loader.exec_module = run  # type: ignore[method-assign, assignment]
        return spec


def _then(run: Callable[[ModuleType], None], place: str) -> Callable[[ModuleType], None]:
    def exec_module(module: ModuleType) -> None:
        run(module)
        _companion(place).introduce()

    return exec_module
