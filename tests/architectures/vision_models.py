"""All classifiers of torchvision, and of timm the smallest of each of its modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from embshare.adapters.inputs import score, waves
from embshare.adapters.packages import need
from embshare.adapters.vision.building import build_torchvision
from embshare.adapters.vision.tables import TABLE, add_table
from tests.architectures.architecture import Architecture

__all__ = ["architectures", "timm_architectures", "torchvision_architectures"]

LARGE: Final = 60_000_000
"""From so many parameters on, a walk has no room for a model as it is, nor for columns as long as
its classifier's."""
IMAGE: Final = 64
"""Height and width of most images."""
ROWS: Final = 2
CLASSES: Final = 1000
SMALLEST: Final = (
    *("test_", "atto", "femto", "pico", "nano", "xxs", "xxt", "_xs", "_xt", "_t0", "_t1", "_n0"),
    *("mini", "tiny", "_s0", "_m0", "_b0", "_xxs", "_s12", "_s1", "_t", "small", "_s", "_050"),
)
"""Parts of the names of small variants, the smallest first."""


def architectures() -> Iterator[Architecture]:
    """Of both libraries.

    Raises:
        MissingPackageError: one of them is not installed.
    """
    yield from torchvision_architectures()
    yield from timm_architectures()


def torchvision_architectures() -> Iterator[Architecture]:
    """Every classifier, at its own width: their builders make no smaller ones.

    They are shared from their classes' embeddings. The largest lose all but two of each row of
    equal blocks, and are shared from a new table.
    """
    models = need("torchvision", extra="vision").models
    for name in sorted(models.list_models(module=models)):
        weights = next(iter(models.get_model_weights(name)))
        large = weights.meta["num_params"] >= LARGE
        head = next(layer for start, layer in HEADS.items() if name.startswith(start))
        yield Architecture(
            library="torchvision",
            name=name,
            build=partial(_with_table, name) if large else partial(_torchvision, name),
            loss=partial(_loss, _side(name)),
            source=TABLE if large else f"{head}.weight",
        )


def timm_architectures() -> Iterator[Architecture]:
    """One for each module of timm: the variant whose name says that it is the smallest.

    What is large all the same loses all but two of each row of equal blocks.
    """
    timm = need("timm", extra="vision")
    for module in sorted(timm.list_modules()):
        names = timm.list_models(module=module)
        if not names:
            continue
        name = min(names, key=_rank)
        settings = timm.get_pretrained_cfg(name)
        heads = getattr(settings, "classifier", None) or "head"
        head = heads if isinstance(heads, str) else heads[0]
        fresh = name in OWN_TABLE
        yield Architecture(
            library="timm",
            name=name,
            build=partial(_timm_with_table if fresh else _timm_with_head, name),
            loss=partial(_loss, SIDES.get(name) or _timm_side(settings)),
            source=TABLE if fresh else f"{head}.weight",
        )


OWN_TABLE: Final = frozenset(
    {
        *("hiera_tiny_224", "sam2_hiera_tiny", "sequencer2d_l"),  # their classifiers start as zeros
        *("mobilenetv5_300m", "nasnetalarge", "pnasnet5large", "vgg11"),  # as those of `LARGE`
    }
)
"""Of timm, those that are shared from a new table."""

SIDES: Final[Mapping[str, int]] = MappingProxyType({"samvit_base_patch16": 256})
"""Of timm, image sizes where the model has to be built for smaller ones: 1024 of its own."""

HEADS: Final = {
    "convnext": "classifier.2",
    "densenet": "classifier",
    "maxvit": "classifier.5",
    "mobilenet_v3": "classifier.3",
    **dict.fromkeys(("alexnet", "vgg"), "classifier.6"),
    **dict.fromkeys(("efficientnet", "mnasnet", "mobilenet_v2", "squeezenet"), "classifier.1"),
    "swin": "head",
    "vit": "heads.head",
    "": "fc",
}
"""Start of a name of torchvision -> the layer that scores classes. What `table_of` finds by
looking; named here so that a model need not be built before it is its turn."""


def _side(name: str) -> int:
    """Images as small as a model of torchvision takes them."""
    if name.startswith(("vit", "maxvit")):
        return 224
    return 128 if name.startswith("inception") else IMAGE


def _timm_side(settings: Any) -> int:
    if settings is None:
        return 224
    size: int = (settings.min_input_size or settings.input_size)[-1]
    return size if settings.fixed_input_size or settings.min_input_size else min(96, size)


def _rank(name: str) -> tuple[int, int, str]:
    ranks = [number for number, part in enumerate(SMALLEST) if part in f"_{name}_"]
    return min(ranks, default=len(SMALLEST)), len(name), name


def _timm_with_head(name: str) -> nn.Module:
    """Some have no head unless classes are asked for."""
    timm = need("timm", extra="vision")
    size = {"img_size": SIDES[name]} if name in SIDES else {}
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=CLASSES, **size)
    large = sum(parameter.numel() for parameter in model.parameters()) >= LARGE
    return _shortened(model) if large else model


def _timm_with_table(name: str) -> nn.Module:
    return add_table(_timm_with_head(name), rows=8192, columns=32)


def _torchvision(name: str) -> nn.Module:
    if name != "inception_v3":
        return build_torchvision(name)
    # Its own start, which is slow, explodes in evaluation mode.
    models = need("torchvision", extra="vision").models
    model: nn.Module = models.get_model(name, weights=None, init_weights=False)
    return model


def _with_table(name: str) -> nn.Module:
    return add_table(_shortened(build_torchvision(name)), rows=8192, columns=32)


def _shortened(model: nn.Module) -> nn.Module:
    """With two of each row of equal blocks: what is repeated once more says nothing more."""
    for stack in list(model.modules()):
        if not isinstance(stack, (nn.Sequential, nn.ModuleList)):
            continue
        shapes = [_shapes(block) for block in stack]
        for place in range(len(stack) - 1, 1, -1):
            if shapes[place] and shapes[place] == shapes[place - 1] == shapes[place - 2]:
                del stack[place]
    return model


def _shapes(block: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, parameter.shape) for name, parameter in block.named_parameters()]


def _loss(side: int, model: nn.Module) -> Tensor:
    outputs: Any = model(waves(ROWS, 3, side, side))
    return score(outputs)
