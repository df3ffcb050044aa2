"""Models of torchvision and timm by name, with or without their published weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from embshare.adapters.errors import ModelNotBuiltError, suggestion
from embshare.adapters.packages import need

__all__ = ["build_timm", "build_torchvision"]


def build_torchvision(name: str, *, weights: bool = False) -> nn.Module:
    """One of ``torchvision.models.list_models()``.

    Args:
        name: ``resnet18``.
        weights: the published ones, downloaded where they are not in torch's cache.
    Raises:
        MissingPackageError: torchvision is not installed.
        ModelNotBuiltError: there is no such model, or its weights cannot be had.
    """
    models = need("torchvision", extra="vision").models
    asked = f"torchvision:{name}"
    if name.lower() not in models.list_models():
        raise _unknown(asked, name, models.list_models())
    return _build(asked, lambda: models.get_model(name, weights="DEFAULT" if weights else None))


def build_timm(name: str, *, weights: bool = False) -> nn.Module:
    """One of ``timm.list_models()``, with ``.tag`` for particular weights.

    Args:
        name: ``vit_tiny_patch16_224``.
        weights: the published ones, downloaded where they are not in the cache.
    Raises:
        MissingPackageError: timm is not installed.
        ModelNotBuiltError: there is no such model, or its weights cannot be had.
    """
    timm = need("timm", extra="vision")
    asked = f"timm:{name}"
    if name.partition(".")[0] not in (known := timm.list_models()):
        raise _unknown(asked, name, known)
    return _build(asked, lambda: timm.create_model(name, pretrained=weights))


def _unknown(asked: str, name: str, known: list[str]) -> ModelNotBuiltError:
    return ModelNotBuiltError(
        model=asked, finding="there is no such model", hint=suggestion(name, known)
    )


def _build(asked: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return _anywhere(build)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelNotBuiltError(
            model=asked,
            finding=f"cannot be built ({type(error).__name__}: {error})",
            hint="Where its weights are the trouble, build it without them.",
        ) from error


def _anywhere(build: Callable[[], nn.Module]) -> nn.Module:
    """Some work their sizes out with tensors, which have no values on meta."""
    try:
        return build()
    except NotImplementedError:
        with torch.device("cpu"):
            return build()
