"""What a trained captioner needs beside its weights: words, and how an image becomes numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from embshare.caching import cached
from embshare.models.matched import Architecture, MatchedConfig
from embshare.tasks.building import ModelNotForTaskError, build_model
from embshare.tasks.captioning.config import CaptioningConfig
from embshare.tasks.captioning.data import CaptionSet
from embshare.tasks.captioning.image_encoder import (
    EncoderError,
    ImageEncoder,
    make_encoder,
    read_weights,
)
from embshare.tasks.captioning.images import ModelInputs, decode, encode_pixels
from embshare.tasks.captioning.model import Captioner
from embshare.tasks.captioning.words import BOS, EOS, PAD, UNK, Vocabulary, not_as_saved
from embshare.tasks.changing import FixedSettingError
from embshare.tasks.decoding import Beam, SequenceScorer, beam_search, greedy_search

__all__ = [
    "CaptioningProcessor",
    "banned_tokens",
    "learn_processor",
    "load_processor",
    "write_captions",
]

WEIGHTS: Final = "encoder.safetensors"
ENCODER_SETTINGS: Final = frozenset({"frozen", "encoder", "encoder_width", "image_size"})
"""What a frozen encoder depends on."""
RESOLVED: Final = frozenset({"image_size", "rows"})
"""What depends on the data where it is left out: fixed, but by what came of it."""


@final
@dataclass(frozen=True)
class CaptioningProcessor:
    """From images and words to numbers, and from settings to models."""

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
        settings = _settings_again(config, self.config, train=train)
        trained_before = self.trained_before and not train
        return replace(self, config=settings, trained_before=trained_before)

    def save(self, folder: Path) -> None:
        """Write the words, and a frozen encoder with its weights."""
        self.vocabulary.save(folder)
        if self.frozen is not None:
            state = {k: v.contiguous() for k, v in self.frozen.body.state_dict().items()}
            save_file(state, folder / WEIGHTS)

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

    def make_image_encoder(self) -> ImageEncoder:
        """The encoder of the settings, with its weights if they name any.

        Raises:
            EncoderError: there is no such encoder, or its weights cannot be had.
        """
        config = self.config
        encoder = make_encoder(config.encoder, config.side, config.encoder_width)
        if config.encoder_weights is not None and not self.trained_before:
            read_weights(encoder, config.encoder, config.encoder_weights)
        return encoder

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
        encoder = None if self.frozen is not None else self.make_image_encoder()
        seen = self.frozen or encoder
        assert seen is not None
        return Captioner(
            self.model_config(architecture),
            encoder,
            features=seen.features,
            shift=self.config.shift,
        )

    def inputs(self, paths: Iterable[Path]) -> ModelInputs:
        """What a model reads of some image files.

        Raises:
            DataError: one cannot be decoded.
        """
        pixels = np.stack([decode(path, self.config.side) for path in paths])
        return ModelInputs.of(pixels if self.frozen is None else encode_pixels(self.frozen, pixels))

    @property
    def beam(self) -> Beam:
        """How captions are searched for."""
        return Beam(width=self.config.beam, length_penalty=self.config.length_penalty)

    def write(self, model: nn.Module, inputs: ModelInputs) -> Iterator[str]:
        """A caption for each image, in order.

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
            inputs.batches(self.config.training.eval_batch_size),
            self.vocabulary,
            beam=self.beam,
            most_words=self.config.most_words,
        )

    def check_reads(self, name: str, model: nn.Module) -> None:
        """Images are of the size that the model was made for."""

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[str]:
        """A caption for each image file.

        Raises:
            DataError: a file is missing, no image, or cut off.
        """
        lines = iter(inputs)
        while some := list(islice(lines, self.config.training.eval_batch_size)):
            images = self.inputs(Path(line.strip()).expanduser() for line in some)
            yield from self.write(model, images)


def learn_processor(config: CaptioningConfig, captions: CaptionSet) -> CaptioningProcessor:
    """Learn words from the training captions, and read a frozen encoder's weights.

    Raises:
        EncoderError: there is no such encoder, or its weights cannot be had.
    """
    texts = (line for image in captions.images("train") for line in image.captions)
    processor = CaptioningProcessor(config, Vocabulary.learn(texts, least=config.least))
    encoder = (
        processor.make_image_encoder()
    )  # now, so that a wrong name is found before anything is decoded
    if not config.frozen:
        return processor
    return CaptioningProcessor(config, processor.vocabulary, _freeze(encoder))


def load_processor(config: CaptioningConfig, folder: Path) -> CaptioningProcessor:
    """Read back what `CaptioningProcessor.save` wrote; weights are needed nowhere else.

    Raises:
        DataError: a file is missing or not as it was written.
    """
    vocabulary = Vocabulary.load(folder)
    if not config.frozen:
        return CaptioningProcessor(config, vocabulary, trained_before=True)
    encoder = make_encoder(config.encoder, config.side, config.encoder_width)
    try:
        read_weights(encoder, config.encoder, str(folder / WEIGHTS))
    except EncoderError as error:
        raise not_as_saved(folder / WEIGHTS, error.has) from error
    return CaptioningProcessor(config, vocabulary, _freeze(encoder), trained_before=True)


def _freeze(encoder: ImageEncoder) -> ImageEncoder:
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    return encoder.eval()


def _settings_again(
    config: CaptioningConfig, before: CaptioningConfig, *, train: bool
) -> CaptioningConfig:
    """The settings that are asked for, with those resolved that depend on the data.

    Raises:
        FixedSettingError: what is fixed is asked for in another way; names all such settings.
    """
    if train:
        fixed = ENCODER_SETTINGS if before.frozen else frozenset({"frozen"})
    else:
        fixed = frozenset(CaptioningConfig.model_fields) - (config.scoring - RESOLVED)
    resolved = {"image_size": before.side, "rows": before.table_rows(0)}
    changed: dict[str, tuple[object, object]] = {}
    for name in sorted(fixed):
        was, asked = getattr(before, name), getattr(config, name)
        if asked not in (was, resolved.get(name, was)):
            changed[name] = (resolved.get(name, was), asked)
    if changed:
        raise FixedSettingError(changed=changed)
    kept = {name: value for name, value in resolved.items() if name in fixed}
    return config.model_copy(update=kept)


def banned_tokens(vocabulary: Vocabulary, rows: int) -> list[int]:
    """What never stands in a caption: special tokens but the end, and rows without a word."""
    return [PAD, BOS, UNK, *range(len(vocabulary), rows)]


@torch.inference_mode()
def write_captions(
    model: Captioner,
    batches: Iterator[Mapping[str, Tensor]],
    vocabulary: Vocabulary,
    *,
    beam: Beam,
    most_words: int,
) -> Iterator[str]:
    """One caption for each image, in order.

    Args:
        model: left on its device, in evaluation mode; a shared one derives its weights once.
        batches: ``pixels`` or ``features``, as the model reads them.
        vocabulary: that it was trained with.
        beam: how to search; width 1 is greedy decoding.
        most_words: of a caption.
    """
    model.eval()
    device = model.text.embedding.weight.device
    banned = banned_tokens(vocabulary, model.text.settings.vocab_size)
    scorer = SequenceScorer(model.text, banned=banned)
    with cached(model):
        for batch in batches:
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            state = scorer.start(model.encode(**moved))
            limits = [most_words + 1] * len(state.memory.hidden)
            found: Sequence[Sequence[int]]
            if beam.width == 1:
                found = greedy_search(
                    scorer, state, limits=limits, first=BOS, end=EOS, device=device
                )
            else:
                best = beam_search(
                    scorer, state, limits=limits, first=BOS, end=EOS, beam=beam, device=device
                )
                found = [hypotheses[0].tokens for hypotheses in best]
            yield from (vocabulary.decode(tokens) for tokens in found)
