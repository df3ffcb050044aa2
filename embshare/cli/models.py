"""``MODEL`` on the command line: a name becomes a model."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from embshare.adapters.errors import ModelNotBuiltError, suggestion
from embshare.config import ShareConfig
from embshare.plan.planner import plan_sharing
from embshare.plan.values import SharePlan

__all__ = ["FORMS", "Built", "build_model", "stored_elsewhere"]

FORMS = (
    "a folder with a config.json, a name on the Hugging Face hub, torchvision:NAME, timm:NAME, "
    "fairseq:NAME, embshare:lstm|conv|attention, or package.module:factory"
)
"""Forms of MODEL."""

MATCHED_VOCABULARY = 2_000
"""Vocabulary size of matched models; their other settings are the defaults of `MatchedConfig`."""


class Planner(Protocol):
    """`plan_sharing`, or a family's own."""

    def __call__(
        self, model: nn.Module, config: ShareConfig, *, trained: bool | None = None
    ) -> SharePlan: ...


@dataclass(frozen=True, kw_only=True)
class Built:
    """A model and where it comes from."""

    model: nn.Module
    origin: str
    """Sentence that says what was built, and with what weights."""
    planner: Planner = plan_sharing
    """Planner with the layer kinds and sources of its family."""
    trained: bool | None = None
    """Whether its weights are trained; ``None`` asks who loaded them, if anyone did."""

    def plan(self, config: ShareConfig) -> SharePlan:
        """Plan to share the model as it was built.

        Raises:
            PlanError: it cannot be shared like that.
        """
        return self.planner(self.model, config, trained=self.trained)


def build_model(name: str, *, weights: bool, meta: bool = False) -> Built:
    """The model of a name.

    Args:
        name: one of `FORMS`.
        weights: load the published or saved ones. A factory decides for itself.
        meta: without weights, build models of transformers, torchvision, timm and fairseq on meta:
            shapes alone, in no time and no memory.
    Raises:
        ModelNotBuiltError: there is no model of this name; the message says what was looked for.
        MissingPackageError: it needs an extra that is not installed.
    """
    if not name.strip():
        raise ModelNotBuiltError(
            model=name, finding="not a model's name", hint=f"MODEL is {FORMS}."
        )
    scheme, colon, rest = name.partition(":")
    if colon and not Path(name).exists():
        if scheme in ("torchvision", "timm"):
            return _vision(scheme, rest, weights, meta)
        if scheme == "fairseq":
            return _fairseq(rest, meta)
        return _matched(rest) if scheme == "embshare" else _factory(scheme, rest)
    return _hugging_face(name, weights, meta)


def stored_elsewhere(name: str) -> bool:
    """Whether a model's weights are read from files, so that its shapes alone are there sooner."""
    scheme, colon, _ = name.partition(":")
    return not colon or Path(name).exists() or scheme in ("torchvision", "timm")


def _describe(model: nn.Module, name: str, state: str, *, trained: bool = False) -> Built:
    origin = f"{type(model).__name__} of {name}, {state}."
    return Built(model=model, origin=origin, trained=trained or None)


@contextmanager
def _place(weights: bool, meta: bool) -> Iterator[str]:
    """Device to build a model on, and a sentence about its weights."""
    if weights:
        yield "with its weights"
    elif meta:
        with torch.device("meta"):
            yield "built without weights"
    else:
        yield "with random weights"


def _vision(scheme: str, rest: str, weights: bool, meta: bool) -> Built:
    from embshare.adapters import vision

    build = vision.build_timm if scheme == "timm" else vision.build_torchvision
    with _place(weights, meta) as state:
        model = build(rest, weights=weights)
        return _describe(model, f"{scheme}:{rest}", state, trained=weights)


def _hugging_face(name: str, weights: bool, meta: bool) -> Built:
    from embshare.adapters import huggingface

    folder, given = huggingface.model_folder(Path(name)), name
    if folder.exists() and not (folder / "config.json").is_file():
        raise _no_config(folder)
    if not folder.exists() and (name[0] in "./~\\" or name.count("/") > 1 or name[-1] == "/"):
        raise ModelNotBuiltError(
            model=name, finding="there is no such folder", hint=f"MODEL is {FORMS}."
        )
    name = str(folder) if folder.is_dir() else name
    if weights and folder.is_dir() and not huggingface.has_weights(folder):
        model = huggingface.build(name, weights=False)
        return _describe(model, given, "with random weights: the folder holds none")
    with _place(weights, meta) as state:
        return _describe(huggingface.build(name, weights=weights), given, state)


def _no_config(folder: Path) -> ModelNotBuiltError:
    if (folder / "embshare.json").is_file():
        return ModelNotBuiltError(
            model=str(folder),
            finding="a checkpoint of embshare, which holds no code",
            hint="Load it in Python with embshare.load(folder, factory).",
        )
    return ModelNotBuiltError(
        model=str(folder), finding="has no config.json", hint=f"MODEL is {FORMS}."
    )


def _matched(rest: str) -> Built:
    from embshare.models.matched import ARCHITECTURES, MatchedConfig, MatchedLanguageModel

    architecture = next((known for known in ARCHITECTURES if known == rest), None)
    if architecture is None:
        raise ModelNotBuiltError(
            model=f"embshare:{rest}",
            finding="there is no such model",
            hint=suggestion(rest, ARCHITECTURES),
        )
    config = MatchedConfig(architecture=architecture, vocab_size=MATCHED_VOCABULARY)
    return _describe(MatchedLanguageModel(config), f"embshare:{rest}", "with random weights")


def _fairseq(rest: str, meta: bool) -> Built:
    from embshare.adapters.fairseq.building import build_fairseq, plan_named

    with _place(False, meta) as state:  # fairseq names architectures, not weights
        built = _describe(build_fairseq(rest), f"fairseq:{rest}", state)
    return replace(built, planner=plan_named)


def _factory(module: str, attribute: str) -> Built:
    name = f"{module}:{attribute}"
    with _here_first():
        factory = _find(name, module, attribute)
        model = factory if isinstance(factory, nn.Module) else _call(name, factory)
    if not isinstance(model, nn.Module):
        raise ModelNotBuiltError(
            model=name,
            finding=f"must give a torch.nn.Module, but gave a {type(model).__name__}",
            hint="Name a function that returns one, or its class.",
        )
    return _describe(model, name, "as its factory made it")


@contextmanager
def _here_first() -> Iterator[None]:
    """Modules of the current folder can be imported, as ``python -m`` would have it."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _import(name: str, module: str) -> object:
    try:
        return importlib.import_module(module)
    except Exception as error:  # whatever a module of the user's does while it is imported
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise ModelNotBuiltError(
                model=name,
                finding=f"there is no module `{error.name}`",
                hint=f"MODEL is {FORMS}; modules are looked for in this folder too.",
            ) from error
        raise ModelNotBuiltError(
            model=name,
            finding=f"importing `{module}` failed ({type(error).__name__}: {error})",
            hint="Import it in Python to see where.",
        ) from error


def _find(name: str, module: str, attribute: str) -> Any:
    if not all(part.isidentifier() for part in f"{module}.{attribute}".split(".")):
        raise ModelNotBuiltError(
            model=name, finding="not a model's name", hint=f"MODEL is {FORMS}."
        )
    found: Any = _import(name, module)
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [n for n in vars(found) if callable(getattr(found, n)) and n[0] != "_"]
            raise ModelNotBuiltError(
                model=name,
                finding=f"`{module}` has no `{attribute}`",
                hint=suggestion(part, public),
            )
        found = getattr(found, part)
    return found


def _call(name: str, factory: Any) -> object:
    if not callable(factory):
        raise ModelNotBuiltError(
            model=name,
            finding=f"must be a function, a class or a module, but is a {type(factory).__name__}",
            hint="Name a function that returns a torch.nn.Module.",
        )
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise ModelNotBuiltError(
            model=name,
            finding=f"cannot be called without arguments ({error})",
            hint="Name a function that takes none and fills them in.",
        ) from error
    except ValueError:
        pass  # something without a signature; calling it tells
    try:
        return factory()
    except Exception as error:
        raise ModelNotBuiltError(
            model=name,
            finding=f"failed ({type(error).__name__}: {error})",
            hint="Call it in Python to see where.",
        ) from error
