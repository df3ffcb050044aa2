"""Words, and how images become numbers: all that a trained captioner needs beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from embshare.caching import cached
from embshare.models.matched import Architecture, MatchedConfig
from embshare.tasks.building import ModelNotForTaskError, build_model
from embshare.tasks.captioning.config import CaptioningConfig
from embshare.tasks.captioning.data import CaptionSet
from embshare.tasks.captioning.images import ModelInputs, decode, encode_pixels
from embshare.tasks.captioning.model import Captioner, ImageEncoder, make_encoder
from embshare.tasks.captioning.words import BOS, EOS, PAD, UNK, Vocabulary
from embshare.tasks.changing import FixedSettingError
from embshare.tasks.decoding import Beam, SequenceScorer, beam_search, greedy_search
from embshare.tasks.task import Batch

__all__ = [
    "IGNORED",
    "IMAGE",
    "CaptioningProcessor",
    "banned_tokens",
    "collate_captions",
    "learn_processor",
    "load_processor",
    "pad_labels",
]

IGNORED: Final = -100
IMAGE: Final = "image"
"""The key of images' numbers in a batch, for an objective that needs references."""
WEIGHTS: Final = "encoder.safetensors"
ENCODER_SETTINGS: Final = frozenset({"frozen", "encoder", "encoder_width", "image_size"})
"""Settings that a frozen encoder depends on."""


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
        fixed = frozenset(CaptioningConfig.model_fields) - config.scoring
        if train:
            fixed = ENCODER_SETTINGS if self.config.frozen else frozenset({"frozen"})
        pairs = {name: (getattr(self.config, name), getattr(config, name)) for name in fixed}
        changed = {name: pairs[name] for name in sorted(pairs) if pairs[name][0] != pairs[name][1]}
        if changed:
            raise FixedSettingError(changed=changed)
        return replace(self, config=config, trained_before=self.trained_before and not train)

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
            InvalidValueError: there is no such encoder.
            DataError: its weights cannot be had.
        """
        config = self.config
        weights = None if self.trained_before else config.encoder_weights
        return make_encoder(config.encoder, config.side, config.encoder_width, weights)

    def build(self, model: str, seed: int) -> nn.Module:
        """A captioner of the matched family.

        Raises:
            ModelNotForTaskError: there is no such model.
            EmbshareError: as `make_image_encoder`.
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
        """Read image files as a model reads them.

        Raises:
            DataError: one cannot be decoded.
        """
        pixels = np.stack([decode(path, self.config.side) for path in paths])
        return ModelInputs.of(pixels if self.frozen is None else encode_pixels(self.frozen, pixels))

    @torch.inference_mode()
    def write(self, model: nn.Module, inputs: ModelInputs) -> Iterator[str]:
        """A caption for each image, in order.

        Args:
            model: left on its device, in evaluation mode; a shared one derives its weights once.
            inputs: images, as the model reads them.
        Raises:
            ModelNotForTaskError: the model is no captioner.
        """
        if not isinstance(model, Captioner):
            raise ModelNotForTaskError(
                model=type(model).__name__,
                finding="it is no captioner",
                hint="Build one with this processor.",
            )
        config, device = self.config, model.text.embedding.weight.device
        banned = banned_tokens(self.vocabulary, model.text.settings.vocab_size)
        scorer = SequenceScorer(model.eval().text, banned=banned)
        beam = Beam(width=config.beam, length_penalty=config.length_penalty)
        with cached(model):
            for batch in inputs.batches(config.training.eval_batch_size):
                moved = {name: tensor.to(device) for name, tensor in batch.items()}
                state = scorer.start(model.encode(**moved))
                limits = [config.most_words + 1] * len(state.memory.hidden)
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
                yield from (self.vocabulary.decode(tokens) for tokens in found)

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
        InvalidValueError: there is no such encoder.
        DataError: its weights cannot be had.
    """
    texts = (line for image in captions.images("train") for line in image.captions)
    processor = CaptioningProcessor(config, Vocabulary.learn(texts, least=config.least))
    # Now, so that a wrong name is found before anything is decoded.
    encoder = processor.make_image_encoder()
    return replace(processor, frozen=_freeze(encoder)) if config.frozen else processor


def load_processor(config: CaptioningConfig, folder: Path) -> CaptioningProcessor:
    """Read back what `CaptioningProcessor.save` wrote; weights are needed nowhere else.

    Raises:
        DataError: a file is missing or not as it was written.
    """
    processor = CaptioningProcessor(config, Vocabulary.load(folder), trained_before=True)
    if not config.frozen:
        return processor
    saved = str(folder / WEIGHTS)
    encoder = make_encoder(config.encoder, config.side, config.encoder_width, saved)
    return replace(processor, frozen=_freeze(encoder))


def _freeze(encoder: ImageEncoder) -> ImageEncoder:
    return encoder.requires_grad_(False).eval()


def banned_tokens(vocabulary: Vocabulary, rows: int) -> list[int]:
    """Tokens that are never written: special ones but the end, and rows without a word."""
    return [PAD, BOS, UNK, *range(len(vocabulary), rows)]


def collate_captions(
    rows: Sequence[tuple[int, Sequence[int]]], inputs: ModelInputs, *, numbered: bool
) -> Batch:
    """Captions as keyword arguments of `Captioner.forward`.

    Args:
        rows: each an image's number, and the caption's tokens with the end.
        inputs: of these images.
        numbered: also give images' numbers ``[B]``, for an objective that takes them out.
    """
    batch = inputs.batch([number for number, _ in rows])
    batch["labels"] = pad_labels([tokens for _, tokens in rows])
    if numbered:
        batch[IMAGE] = torch.tensor([number for number, _ in rows])
    return batch


def pad_labels(rows: Sequence[Sequence[int]]) -> Tensor:
    """Tokens as ``[B, T]`` with -100 behind."""
    tensors = [torch.tensor(row) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=IGNORED)
