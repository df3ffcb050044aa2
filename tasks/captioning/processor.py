"""What a trained captioner needs beside its weights: words, and how a picture becomes numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final, final

import numpy as np
from safetensors.torch import save_file
from torch import nn

from embshare.models.matched import Architecture, MatchedConfig
from embshare.tasks.building import ModelNotForTaskError, build_model
from embshare.tasks.captioning.captioner import Captioner
from embshare.tasks.captioning.changes import settings_again
from embshare.tasks.captioning.config import CaptioningConfig
from embshare.tasks.captioning.dataset import CaptionSet
from embshare.tasks.captioning.errors import EncoderError, VocabularyFileError
from embshare.tasks.captioning.pictures.decoding import decode, in_threads
from embshare.tasks.captioning.pictures.encoders import ImageEncoder, make_encoder, read_weights
from embshare.tasks.captioning.pictures.seen import encode_pixels
from embshare.tasks.captioning.rows import Sight
from embshare.tasks.captioning.vocabulary import BOS, PAD, Vocabulary
from embshare.tasks.captioning.writing import write_captions
from embshare.tasks.decoding import Beam

__all__ = ["CaptioningProcessor", "learn_processor", "load_processor"]

ENCODER: Final = "encoder.safetensors"


@final
@dataclass(frozen=True)
class CaptioningProcessor:
    """From pictures and words to numbers, and from settings to models."""

    config: CaptioningConfig
    vocabulary: Vocabulary
    frozen: ImageEncoder | None = None
    """The encoder whose features models read, where it is no part of them."""
    trained_before: bool = False
    """Models that are built get trained weights afterwards: the encoder's are not looked for."""

    def again(self, config: CaptioningConfig, *, train: bool) -> CaptioningProcessor:
        """The same words and frozen encoder with other settings.

        Args:
            config: of what is done now.
            train: another model, and not only to evaluate the one that is there.
        Raises:
            FixedSettingError: settings would make another model, or another frozen encoder.
        """
        settings = settings_again(config, self.config, train=train)
        trained_before = self.trained_before and not train
        return replace(self, config=settings, trained_before=trained_before)

    def save(self, folder: Path) -> None:
        """Write the words, and a frozen encoder with its weights."""
        self.vocabulary.save(folder)
        if self.frozen is not None:
            state = {k: v.contiguous() for k, v in self.frozen.body.state_dict().items()}
            save_file(state, folder / ENCODER)

    def model_config(self, architecture: Architecture) -> MatchedConfig:
        """The model of one architecture; all have the same table, head, width and budget."""
        config = self.config
        return MatchedConfig(
            architecture=architecture,
            vocab_size=config.table_rows(len(self.vocabulary)),
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            kernel_size=config.kernel_size,
            dropout=config.dropout,
            pad_token_id=PAD,
            bos_token_id=BOS,
        )

    def make_eye(self) -> ImageEncoder:
        """The encoder of the settings, with its weights if they name any.

        Raises:
            EncoderError: there is no such encoder, or its weights cannot be had.
        """
        config = self.config
        eye = make_encoder(config.encoder, config.side, config.encoder_width)
        if config.encoder_weights is not None and not self.trained_before:
            read_weights(eye, config.encoder, config.encoder_weights)
        return eye

    def build(self, model: str, seed: int) -> nn.Module:
        """A captioner of the matched family.

        Raises:
            ModelNotForTaskError: there is no such model.
            EncoderError: there is no such encoder, or its weights cannot be had.
        """
        return build_model(
            model,
            seed=seed,
            matched=self._captioner,
            auto=None,
            vocab_size=self.config.table_rows(len(self.vocabulary)),
        )

    def _captioner(self, architecture: Architecture) -> nn.Module:
        eye = None if self.frozen is not None else self.make_eye()
        seen = self.frozen or eye
        assert seen is not None
        return Captioner(
            self.model_config(architecture), eye, features=seen.features, shift=self.config.shift
        )

    def sight(self, paths: Iterable[Path]) -> Sight:
        """What a model sees of some picture files.

        Raises:
            PictureError: one cannot be decoded.
        """
        side = self.config.side
        pixels = np.stack(list(in_threads(lambda path: decode(path, side), paths)))
        return Sight(pixels if self.frozen is None else encode_pixels(self.frozen, pixels))

    @property
    def beam(self) -> Beam:
        """How captions are searched for."""
        return Beam(width=self.config.beam, length_penalty=self.config.length_penalty)

    def write(self, model: nn.Module, sight: Sight) -> Iterator[str]:
        """A caption for each picture, in order.

        Raises:
            ModelNotForTaskError: the model is no captioner.
        """
        if not isinstance(model, Captioner):
            raise ModelNotForTaskError(
                model=type(model).__name__,
                finding="it is no captioner",
                way_out="Build one with this processor.",
            )
        return write_captions(
            model,
            sight.batches(self.config.training.eval_batch_size),
            self.vocabulary,
            beam=self.beam,
            most_words=self.config.most_words,
        )

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Pictures are of the size that the model was made for."""

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """A caption for each picture file.

        Raises:
            PictureError: a file is missing, no picture, or cut off.
        """
        lines = iter(inputs)
        while some := list(islice(lines, self.config.training.eval_batch_size)):
            sight = self.sight(Path(line.strip()).expanduser() for line in some)
            yield from self.write(model, sight)


def learn_processor(config: CaptioningConfig, captions: CaptionSet) -> CaptioningProcessor:
    """Learn words from the training captions, and read a frozen encoder's weights.

    Raises:
        EncoderError: there is no such encoder, or its weights cannot be had.
    """
    texts = (line for picture in captions.pictures("train") for line in picture.captions)
    processor = CaptioningProcessor(config, Vocabulary.learn(texts, least=config.least))
    eye = processor.make_eye()  # now, so that a wrong name is found before anything is decoded
    if not config.frozen:
        return processor
    return CaptioningProcessor(config, processor.vocabulary, _still(eye))


def load_processor(config: CaptioningConfig, folder: Path) -> CaptioningProcessor:
    """Read back what `CaptioningProcessor.save` wrote; weights are needed nowhere else.

    Raises:
        VocabularyFileError: a file is missing or not as it was written.
    """
    vocabulary = Vocabulary.load(folder)
    if not config.frozen:
        return CaptioningProcessor(config, vocabulary, trained_before=True)
    eye = make_encoder(config.encoder, config.side, config.encoder_width)
    try:
        read_weights(eye, config.encoder, str(folder / ENCODER))
    except EncoderError as error:
        raise VocabularyFileError(path=folder / ENCODER, finding=error.finding) from error
    return CaptioningProcessor(config, vocabulary, _still(eye), trained_before=True)


def _still(eye: ImageEncoder) -> ImageEncoder:
    for parameter in eye.parameters():
        parameter.requires_grad_(False)
    return eye.eval()
