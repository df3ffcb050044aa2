"""Integrations: what embshare does for another package as soon as that package is imported.

An integration is a module with three functions. `introduce` is called once, when the package has
been imported, before or after embshare; `attach` is called on each model that was shared, and
`detach` on each that was materialized. The package is never imported on its behalf, and neither is
the integration before the package.

Two more functions may be there. ``home(model)`` gives the part of a package's wrapper that is to be
shared in its place, or ``None`` (`home_of`); ``trained(model)`` the names of parameters that the
package has loaded (`trained_weights`).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "INTEGRATIONS",
    "Integration",
    "attach",
    "detach",
    "home_of",
    "trained_weights",
    "watch",
]


class Integration(Protocol):
    """What an integration's module holds."""

    def introduce(self) -> None:
        """Tell the package about embshare; called again, it does nothing."""
        ...

    def attach(self, model: nn.Module) -> None:
        """Give a model that was just shared what the package expects of it."""
        ...

    def detach(self, model: nn.Module) -> None:
        """Undo `attach`."""
        ...


INTEGRATIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "transformers.quantizers.auto": "embshare.adapters.huggingface.integration",
        "transformers.modeling_utils": "embshare.adapters.huggingface.loading",
        "sentence_transformers": "embshare.adapters.sentence",
        "accelerate.big_modeling": "embshare.adapters.huggingface.offloading",
        "peft.tuners.tuners_utils": "embshare.adapters.huggingface.merging",
    }
)
"""Module of a package -> its integration. Named, not imported, as layer kinds are."""

_INTRODUCED: Final[Mapping[str, str]] = MappingProxyType(
    {**INTEGRATIONS, "torch._dynamo": "embshare.ops.tracing"}
)
"""Integrations and torch's compiler, whose module is slow to import and is shown no models."""


def watch(integrations: Mapping[str, str] = _INTRODUCED) -> None:
    """Introduce each integration: now where its module is imported, else when it will be."""
    absent = {module: place for module, place in integrations.items() if module not in sys.modules}
    for module in integrations.keys() - absent.keys():
        _integration(integrations[module]).introduce()
    if absent:
        sys.meta_path.insert(0, _Watch(absent))


def attach(model: nn.Module) -> None:
    """Show a model that was just shared to every integration whose package is there."""
    for integration in _present():
        integration.attach(model)


def detach(model: nn.Module) -> None:
    """Show a model that is no longer shared to every integration whose package is there."""
    for integration in _present():
        integration.detach(model)


def home_of(model: nn.Module) -> nn.Module:
    """The module that is planned and shared where this one is named, and that owns the bank.

    A wrapper that saves its inner model by that model's own method (a `SentenceTransformer`) has
    it inside: a bank outside of the inner model would be in no file. Every other model is its own.
    """
    for home in _answers("home"):
        inner: nn.Module | None = home(model)
        if inner is not None:
            return inner
    return model


def trained_weights(model: nn.Module) -> set[str]:
    """Full names of the parameters that some package has loaded, trained, into this model."""
    return {name for trained in _answers("trained") for name in trained(model)}


def _answers(question: str) -> Iterator[Callable[[nn.Module], Any]]:
    """A function of this name of each integration that has it and whose package is there."""
    found = (getattr(integration, question, None) for integration in _present())
    return (function for function in found if function is not None)


def _present() -> Iterator[Integration]:
    for module, place in INTEGRATIONS.items():
        if module in sys.modules:
            yield _integration(place)


def _integration(place: str) -> Integration:
    return cast("Integration", importlib.import_module(place))


# Why: docs/explanation/decisions/import-hook.md
class _Watch(MetaPathFinder):
    """Finds nothing itself: lets the others find a module, and introduces it when it has run."""

    def __init__(self, integrations: Mapping[str, str]) -> None:
        self.integrations = integrations

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.integrations:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            run = _then(spec.loader.exec_module, self.integrations[name])
            # In this one loader, which otherwise stays what its package and its readers expect.
            spec.loader.exec_module = run  # type: ignore[method-assign, assignment]
        return spec


def _then(run: Callable[[ModuleType], None], place: str) -> Callable[[ModuleType], None]:
    def exec_module(module: ModuleType) -> None:
        run(module)
        _integration(place).introduce()

    return exec_module
