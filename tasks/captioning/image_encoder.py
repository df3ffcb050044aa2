"""Image encoders: from pixels to a grid of features.

Networks and their names are torchvision's, as saved runs and files of weights have them. timm's
``features_only`` would read vision transformers too, but it names networks otherwise, and takes
weights of another network without an error.
"""

# Axis letters: B images, S pixels of a side, G places of the grid, C features of a place.

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, Final, final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from embshare.errors import EmbshareError, MissingPackageError

__all__ = ["SMALL", "EncoderError", "ImageEncoder", "make_encoder", "read_weights"]

SMALL: Final = "small"
NARROWEST: Final = 32
LARGEST_GRID: Final = 7
# Of the images that torchvision's networks were trained on.
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)


class EncoderError(EmbshareError, ValueError):
    """There is no such image encoder, or its weights are not those of it."""

    def __init__(self, encoder: str, *, needs: str, has: str, hint: str) -> None:
        super().__init__(f"the encoder `{encoder}` must {needs}, but {has}. {hint}")
        self.encoder, self.needs, self.has, self.hint = encoder, needs, has, hint


@final
class ImageEncoder(nn.Module):
    """A convolutional network without its head.

    Args:
        body: ``[B, 3, S, S]``, standardised, to ``[B, C, H, W]``.
        size: the ``S`` that it is used with, to find ``C`` and ``G = H W``.
    Raises:
        EncoderError: it gives no grid for such images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, *, name: str, size: int) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.places, self.features = _measure(self, name, size)

    def forward(self, pixels: Tensor) -> Tensor:
        """``[B, 3, S, S]`` of 0 to 255 to ``[B, G, C]``, row by row."""
        standardised = (pixels.float() / 255 - self.mean) / self.std
        grid: Tensor = self.body(standardised)
        return grid.flatten(2).transpose(1, 2)


def _measure(encoder: ImageEncoder, name: str, size: int) -> tuple[int, int]:
    trained = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            found = encoder(torch.zeros(1, 3, size, size))
    except RuntimeError as error:
        raise EncoderError(
            name,
            needs=f"give a grid of features for images of {size} pixels",
            has=f"does not ({str(error).splitlines()[0]})",
            hint="Raise `image_size`, or name another encoder.",
        ) from error
    encoder.train(trained)
    return int(found.shape[1]), int(found.shape[2])


def make_encoder(name: str, size: int, width: int = 64) -> ImageEncoder:
    """An encoder with random weights.

    Args:
        name: ``small``, or a classifier of torchvision.
        size: pixels of a image's side.
        width: channels of the last convolutions of ``small``.
    Raises:
        EncoderError: there is none of this name, or none with a grid.
        MissingPackageError: torchvision is not installed.
    """
    body = _small(size, width) if name == SMALL else _torchvision(name)
    return ImageEncoder(body, name=name, size=size)


def _small(size: int, most: int) -> nn.Sequential:
    """Convolutions of stride 2 until the grid has at most 7 x 7 places, each normed."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before, width, stage = 3, min(NARROWEST, most), 0
    while size > LARGEST_GRID or stage == 0:
        layers[f"conv{stage}"] = nn.Conv2d(before, width, 3, stride=2, padding=1)
        layers[f"norm{stage}"] = nn.BatchNorm2d(width)
        layers[f"active{stage}"] = nn.GELU()
        before, width, size, stage = width, min(2 * width, most), (size + 1) // 2, stage + 1
    return nn.Sequential(layers)


def _torchvision(name: str) -> nn.Module:
    try:
        from torchvision import models  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="torchvision", extra="captioning") from error
    if name not in models.list_models(module=models):
        raise EncoderError(
            name,
            needs=f"be `{SMALL}` or a classifier of torchvision",
            has="there is none of this name",
            hint="Name one as `resnet18`; torchvision.models.list_models() lists them.",
        )
    return _without_head(models.get_model(name, weights=None), name)


def _without_head(model: nn.Module, name: str) -> nn.Module:
    """The part of a classifier before its grid is averaged, under the same names."""
    children = OrderedDict(model.named_children())
    if "features" in children and not name.startswith("swin"):
        return nn.Sequential(OrderedDict(features=children["features"]))
    if "layer4" in children or "trunk_output" in children:
        kept = [(key, child) for key, child in children.items() if key not in ("avgpool", "fc")]
        return nn.Sequential(OrderedDict(kept))
    raise EncoderError(
        name,
        needs="be a convolutional network whose layers stand in a row",
        has="is of another kind",
        hint="Name a ResNet, RegNet, ConvNeXt, EfficientNet, MobileNet, DenseNet or VGG.",
    )


def read_weights(encoder: ImageEncoder, name: str, source: str) -> None:
    """Set an encoder to trained weights; those of a classifier's head are left out.

    Args:
        encoder: as `make_encoder` gave it.
        name: that it was made from.
        source: a file of torch or safetensors, or ``default`` for torchvision's, which are fetched.
    Raises:
        EncoderError: they cannot be had, or are those of another network.
    """
    state = _fetched(name) if source == "default" else _from_file(name, Path(source))
    state = {key.removeprefix("module.").removeprefix("body."): state[key] for key in state}
    own = encoder.body.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    shapes = [key for key in own if key in state and state[key].shape != own[key].shape]
    if missing or shapes:
        lacks = f"lack `{missing[0]}`" if missing else f"have another shape for `{shapes[0]}`"
        raise EncoderError(
            name,
            needs="have weights for each of its layers",
            has=f"those of `{source}` {lacks} ({len(missing) + len(shapes):,} in all)",
            hint="Name the file of this network, or name the network of this file.",
        )
    encoder.body.load_state_dict({key: state[key] for key in own if key in state}, strict=False)


def _from_file(name: str, path: Path) -> dict[str, Tensor]:
    try:
        found: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        found = found.get("state_dict", found)
        if not all(isinstance(tensor, Tensor) for tensor in found.values()):
            raise ValueError("it holds no state dict")
    except Exception as error:  # torch and safetensors raise many kinds
        raise EncoderError(
            name,
            needs="have a file of weights",
            has=f"`{path}` cannot be read ({str(error).splitlines()[0]})",
            hint="Name a state dict saved by torch or safetensors.",
        ) from error
    return dict(found)


def _fetched(name: str) -> dict[str, Tensor]:
    from torchvision import models

    try:
        return dict(models.get_model(name, weights="DEFAULT").state_dict())
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(
            name,
            needs="have weights that torchvision can fetch",
            has=f"they could not be had ({error})",
            hint="Fetch them on another machine, and name the file as `encoder_weights`.",
        ) from error
