"""Compute a model's hidden weights from its own embedding table, and store the table alone."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from embshare._version import __version__
from embshare.integrations import watch

if TYPE_CHECKING:
    from embshare.caching import cached, keep, release
    from embshare.check import Finding, Findings, check
    from embshare.checkpoint import load, save
    from embshare.config import ShareConfig
    from embshare.errors import EmbshareError
    from embshare.freezing import freeze, unfreeze
    from embshare.fsdp import fsdp_groups
    from embshare.materialize import materialize
    from embshare.optim import parameter_groups
    from embshare.plan.planner import plan_sharing
    from embshare.plan.slots import Slot, Source
    from embshare.plan.unmatched import bare_weights
    from embshare.plan.values import SharePlan
    from embshare.sharing import share_from_embedding
    from embshare.summary import Summary, summarize

__all__ = [
    "EmbshareError",
    "Finding",
    "Findings",
    "ShareConfig",
    "SharePlan",
    "Slot",
    "Source",
    "Summary",
    "__version__",
    "bare_weights",
    "cached",
    "check",
    "freeze",
    "fsdp_groups",
    "keep",
    "load",
    "materialize",
    "parameter_groups",
    "plan_sharing",
    "release",
    "save",
    "share_from_embedding",
    "summarize",
    "unfreeze",
]

_PLACES = {
    "EmbshareError": "embshare.errors",
    "Finding": "embshare.check",
    "Findings": "embshare.check",
    "ShareConfig": "embshare.config",
    "SharePlan": "embshare.plan.values",
    "Slot": "embshare.plan.slots",
    "Source": "embshare.plan.slots",
    "Summary": "embshare.summary",
    "bare_weights": "embshare.plan.unmatched",
    "cached": "embshare.caching",
    "check": "embshare.check",
    "freeze": "embshare.freezing",
    "fsdp_groups": "embshare.fsdp",
    "keep": "embshare.caching",
    "load": "embshare.checkpoint",
    "materialize": "embshare.materialize",
    "parameter_groups": "embshare.optim",
    "plan_sharing": "embshare.plan.planner",
    "release": "embshare.caching",
    "save": "embshare.checkpoint",
    "share_from_embedding": "embshare.sharing",
    "summarize": "embshare.summary",
    "unfreeze": "embshare.freezing",
}
"""Public name -> the module that defines it; the imports above are for type checkers alone."""


class _Unloaded(ModuleType):
    """This package until a public name of it is used.

    Importing torch takes more than a second, which ``embshare --help`` and the import hook below
    have no need of. The first name that is used loads all, after which this is a plain module.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by tools that look at any module
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = {name: getattr(import_module(place), name) for name, place in _PLACES.items()}
        globals().update(found)
        self.__class__ = ModuleType  # type: ignore[assignment]
        return getattr(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        # Importing a submodule binds it here. `check` and `materialize` are functions as well.
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_PLACES})


sys.modules[__name__].__class__ = _Unloaded

watch()  # the one thing that importing embshare does besides defining names
del watch
