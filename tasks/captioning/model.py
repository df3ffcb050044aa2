"""A captioner: an image encoder, then a matched encoder-decoder.

Source:
    Wightman 2019, "PyTorch Image Models" (timm), whose ``features_only`` gives the image encoders.
"""

# Axis letters: B images, S pixels of a side, G places of the grid, C features of a place.

from __future__ import annotations

from collections import OrderedDict
from difflib import get_close_matches
from pathlib import Path
from typing import Final, final

import torch
from torch import Tensor, nn

from embshare.errors import InvalidValueError, MissingPackageError
from embshare.models.matched import MatchedConfig, MatchedSeq2Seq, Memory
from embshare.models.matched.seq2seq import Seq2SeqOutput
from embshare.tasks.errors import DataError

__all__ = ["SMALL", "Captioner", "ImageEncoder", "make_encoder", "move_at_random", "read_weights"]

SMALL: Final = "small"
NARROWEST: Final = 32
LARGEST_GRID: Final = 7
# Of ImageNet, for `small`; networks of timm have their own.
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)


@final
class ImageEncoder(nn.Module):
    """An image classifier without its head.

    Args:
        body: ``[B, 3, S, S]``, standardised, to ``[B, C, H, W]``, or a list that ends so.
        size: the ``S`` that it is used with, to find ``C`` and ``G = H W``.
        name: of the body, for errors.
    Raises:
        InvalidValueError: it gives no grid for such images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, *, size: int, name: str) -> None:
        super().__init__()
        self.body = body
        known = getattr(body, "pretrained_cfg", {"mean": MEAN, "std": STD})
        self.register_buffer("mean", torch.tensor(known["mean"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(known["std"]).view(3, 1, 1), persistent=False)
        try:
            with torch.no_grad():
                self.eval()
                _, self.places, self.features = self(torch.zeros(1, 3, size, size)).shape
                self.train()
        except (RuntimeError, AssertionError) as error:
            fault = (
                f"`encoder` must give a grid of features for images of {size} pixels, but `{name}` "
                f"does not ({str(error).splitlines()[0]}): set `image_size`, or name another"
            )
            raise InvalidValueError(what="CaptioningConfig", faults=[fault]) from error

    def forward(self, pixels: Tensor) -> Tensor:
        """``[B, 3, S, S]`` of 0 to 255 to ``[B, G, C]``, row by row."""
        found = self.body((pixels.float() / 255 - self.mean) / self.std)
        grid: Tensor = found[-1] if isinstance(found, list) else found
        if getattr(self.body, "output_fmt", "NCHW") == "NHWC":  # Swin and others of timm
            return grid.flatten(1, 2)
        return grid.flatten(2).transpose(1, 2)


def make_encoder(name: str, size: int, width: int = 64, weights: str | None = None) -> ImageEncoder:
    """An image encoder.

    Args:
        name: ``small``, or a model of timm.
        size: pixels of an image's side.
        width: channels of the last convolutions of ``small``.
        weights: as for `read_weights`, or ``default`` for timm's own, which it downloads; ``None``
            starts at random.
    Raises:
        InvalidValueError: there is no such encoder, none with a grid, or no weights of it to load.
        DataError: the file of weights is none, or of another network.
        MissingPackageError: timm is not installed.
    """
    default = weights == "default"
    body = _small(size, width) if name == SMALL else _from_timm(name, pretrained=default)
    encoder = ImageEncoder(body, size=size, name=name)
    if weights is not None and not (default and name != SMALL):
        read_weights(encoder, Path(weights))
    return encoder


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


def _from_timm(name: str, *, pretrained: bool) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="timm", extra="captioning") from error
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), cutoff=0.5) or ["resnet18"]
        fault = (
            f"`encoder` must be `{SMALL}` or a model of timm, but there is none called `{name}`: "
            f"name one as {', '.join(near)}; timm.list_models() lists them"
        )
        raise InvalidValueError(what="CaptioningConfig", faults=[fault])
    try:
        made: nn.Module = timm.create_model(
            name, pretrained=pretrained, features_only=True, out_indices=(-1,)
        )
    except (OSError, RuntimeError, ValueError, AttributeError, AssertionError) as error:
        fault = (
            f"`encoder` must be a model of which timm has features{' and weights' * pretrained}, "
            f"but `{name}` is not ({error}): name another, or a file as `encoder_weights`"
        )
        raise InvalidValueError(what="CaptioningConfig", faults=[fault]) from error
    return made


def read_weights(encoder: ImageEncoder, path: Path) -> None:
    """Set an encoder to trained weights; those of a classifier's head are left out.

    timm would take a file of another network without an error, so each weight is looked for.

    Args:
        encoder: as `make_encoder` gave it.
        path: a state dict of torch or safetensors: of the encoder, or of timm's classifier.
    Raises:
        DataError: it cannot be read, or is of another network.
    """
    try:
        from timm.models import load_state_dict
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="timm", extra="captioning") from error
    hint = "Name the file of this network's state dict, or name the network of this file."
    needs = "hold a weight for each layer of the image encoder"
    try:
        given: dict[str, Tensor] = load_state_dict(str(path))
        # `features_only` writes some of the classifier's names with other separators.
        state = {_plain(key): tensor for key, tensor in given.items()}
        own = encoder.body.state_dict()
        found = {key: state.get(_plain(key)) for key in own}
        fits = {k: x for k, x in found.items() if x is not None and x.shape == own[k].shape}
    except Exception as error:  # torch and safetensors raise many kinds
        has = f"cannot be read ({type(error).__name__}: {next(iter(str(error).splitlines()), '')})"
        raise DataError(path, needs=needs, has=has, hint=hint) from error
    if missing := [k for k in own if k not in fits and not k.endswith("num_batches_tracked")]:
        has = f"has none of this shape for `{missing[0]}` ({len(missing):,} in all)"
        raise DataError(path, needs=needs, has=has, hint=hint)
    encoder.body.load_state_dict(fits, strict=False)


def _plain(key: str) -> str:
    return key.removeprefix("body.").removeprefix("model.").replace(".", "_")


@final
class Captioner(nn.Module):
    """Describes images.

    There is one table, that of the tokens. So ``embshare.share_from_embedding`` derives the image
    encoder's convolutions from it as well.

    Args:
        config: sizes of the encoder over the grid of image features, and of the decoder.
        image_encoder: gives the grid, and is trained with the rest; ``None`` where features of a
            frozen one are given instead.
        features: number of image features of each place of the grid.
        shift: largest number of pixels by which images are moved at random in training.
    """

    def __init__(
        self,
        config: MatchedConfig,
        image_encoder: ImageEncoder | None,
        *,
        features: int,
        shift: int = 0,
    ) -> None:
        super().__init__()
        self.eye = image_encoder  # saved models have their weights under these two names
        # What all places of all images have in common tells nothing of any one of them. Left in,
        # it is most of what the decoder attends to, and images are distinguished much later.
        self.centre = nn.BatchNorm1d(features, affine=False)
        self.text = MatchedSeq2Seq(config, feature_width=features)
        self.shift = shift

    def forward(
        self,
        pixels: Tensor | None = None,
        features: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Seq2SeqOutput:
        """Score captions of images.

        Args:
            pixels: ``[B, 3, S, S]`` of 0 to 255, where the encoder is a part of the model.
            features: ``[B, G, C]``, where it is not.
            labels: ``[B, T]``, tokens of words and of the end, -100 behind.
        Raises:
            ValueError: the source is missing or of the other kind.
        """
        output: Seq2SeqOutput = self.text(
            features=self.image_features(pixels, features), labels=labels
        )
        return output

    def image_features(self, pixels: Tensor | None, features: Tensor | None) -> Tensor:
        """Return the grid ``[B, G, C]``; arguments and errors as in `forward`."""
        if self.eye is None:
            if features is None or pixels is not None:
                raise ValueError("this model reads features: give `features`, and no `pixels`.")
            return self._centred(features.to(self.text.embedding.weight.dtype))
        if pixels is None or features is not None:
            raise ValueError("this model reads images: give `pixels`, and no `features`.")
        if self.training and self.shift:
            pixels = move_at_random(pixels, self.shift)
        return self._centred(self.eye(pixels))

    def _centred(self, grid: Tensor) -> Tensor:
        """Standardise each feature to mean 0 and standard deviation 1 over places and images."""
        centred: Tensor = self.centre(grid.transpose(1, 2))
        return centred.transpose(1, 2)

    def encode(self, pixels: Tensor | None = None, features: Tensor | None = None) -> Memory:
        """Encode images for the decoder; arguments and errors as in `forward`."""
        return self.text.encode(features=self.image_features(pixels, features))


def move_at_random(pixels: Tensor, most: int) -> Tensor:
    """Move each image ``[B, C, S, S]`` by up to ``most`` pixels; its edge fills what is left."""
    size = pixels.shape[-1]
    moves = torch.randint(-most, most + 1, (2, len(pixels), 1), device=pixels.device)
    place = torch.arange(size, device=pixels.device)
    rows, columns = (place + moves).clamp(0, size - 1)  # each [B, S]
    index = torch.arange(len(pixels), device=pixels.device)[:, None, None]
    moved: Tensor = pixels.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)
