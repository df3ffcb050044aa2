"""A captioner: an image encoder, then a matched encoder-decoder."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from embshare.models.matched import MatchedConfig, MatchedSeq2Seq, Memory
from embshare.models.matched.seq2seq import Seq2SeqOutput
from embshare.tasks.captioning.image_encoder import ImageEncoder

__all__ = ["Captioner", "move_at_random"]


@final
class Captioner(nn.Module):
    """Describes images.

    There is one table, that of the tokens. So ``embshare.share_from_embedding`` derives the image
    encoder's convolutions from it as well.

    Args:
        config: of the encoder over the grid of image features, and of the decoder.
        image_encoder: gives the grid, and is trained with the rest; ``None`` where features of a
            frozen one are given instead.
        features: of each place of the grid.
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
        # it is most of what the decoder attends to, and images are told apart much later.
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
        """The grid ``[B, G, C]``; arguments and errors as in `forward`."""
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
        """Each feature with mean 0 and standard deviation 1 over places and images."""
        centred: Tensor = self.centre(grid.transpose(1, 2))
        return centred.transpose(1, 2)

    def encode(self, pixels: Tensor | None = None, features: Tensor | None = None) -> Memory:
        """What the decoder attends to; arguments and errors as in `forward`."""
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
