"""Captioning as a task: images read, models built, trained and evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Final, final

import numpy as np
from torch import nn
from torch.utils.data import Dataset

from embshare.errors import InvalidValueError
from embshare.models.matched import ARCHITECTURES
from embshare.tasks.captioning.config import CaptioningConfig
from embshare.tasks.captioning.data import SPLITS, CaptionedImage, CaptionSet, Split, load_folder
from embshare.tasks.captioning.images import (
    ModelInputs,
    Pixels,
    decode,
    encode_pixels,
    read_images,
)
from embshare.tasks.captioning.metrics import ScorePlan, make_plan, score_words, split_words
from embshare.tasks.captioning.processor import (
    CaptioningProcessor,
    collate_captions,
    learn_processor,
    load_processor,
)
from embshare.tasks.captioning.scenes import draw_split, scenes_set
from embshare.tasks.captioning.words import EOS
from embshare.tasks.packages import check_packages
from embshare.tasks.runs.folder import write_text
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Feed, Metric

__all__ = ["Captioning", "PreparedCaptioning"]

NEEDED: Final = ("PIL", "datasets", "pycocoevalcap")
SHOWN: Final = 24
LEAST_SIDE: Final = 96  # of a thumbnail: smaller images are shown larger


@final
@dataclass(frozen=True)
class Captioning:
    """The task before its images are read."""

    config: CaptioningConfig = field(default_factory=CaptioningConfig)

    def prepare(
        self, processor: CaptioningProcessor | None = None, *, train: bool = False
    ) -> PreparedCaptioning:
        """Read captions, learn words if none are given, and decode every image.

        With a processor only the split that is scored has to be there, unless ``train`` is asked
        for. What it was made with stays as it is; the other settings are the task's own.

        Raises:
            DataError: captions or images are missing or not as they must be, with file and line;
                or Java, which splits captions into words, does not run.
            InvalidValueError: there is no such encoder, or a score that is asked for by name
                cannot be computed here.
            MatchedConfigError: no model has these sizes.
            FixedSettingError: settings would make another model of the processor's.
        """
        check_packages(NEEDED, extra="captioning")
        config = self.config
        if processor is not None:
            processor = processor.again(config, train=train)
            config = processor.config
        needed = SPLITS if train or processor is None else (config.split,)
        if config.data is None:
            captions = scenes_set()
        else:
            captions = load_folder(config.data, config.images, needed=needed)
        references = (line for p in captions.images(config.split) for line in p.captions)
        scores = make_plan(config.metrics, references, quick=config.data is None)
        processor = processor or learn_processor(config, captions)
        for architecture in ARCHITECTURES:
            processor.model_config(architecture)
        prepared = PreparedCaptioning(config, captions, processor, scores, needed)
        _ = prepared.references  # a Java that does not run is found before training
        from embshare.tasks.processes import one_after_the_other  # imports accelerate

        with one_after_the_other(shared=config.data is not None):
            _ = prepared.inputs
        return prepared

    def load_processor(self, folder: Path) -> CaptioningProcessor:
        """Words, and a frozen encoder, of a model that is there already.

        Raises:
            DataError: they cannot be read.
        """
        return load_processor(self.config, folder)


@final
@dataclass(frozen=True)
class PreparedCaptioning:
    """The task with its images read."""

    config: CaptioningConfig
    captions: CaptionSet
    processor: CaptioningProcessor
    scores: ScorePlan
    needed: Sequence[Split] = SPLITS
    """Splits that are there."""

    @property
    def metric(self) -> Metric:
        """CIDEr-D; named otherwise where words are split in a way that is not the published one."""
        return Metric(
            name=f"cider{self.scores.suffix}",
            label=f"{self.config.split} CIDEr-D (0 to 10)",
            better="higher",
        )

    @property
    def training(self) -> TrainSettings:
        """How long and how fast one model is trained."""
        return self.config.training

    @cached_property
    def inputs(self) -> Mapping[Split, ModelInputs]:
        """Pixels of each split, or a frozen encoder's features."""
        return {split: self._inputs(split) for split in dict.fromkeys(self.needed)}

    def _inputs(self, split: Split) -> ModelInputs:
        side, frozen = self.processor.config.side, self.processor.frozen
        if self.config.data is None:
            drawn = draw_split(split, side)
            return ModelInputs.of(drawn if frozen is None else encode_pixels(frozen, drawn))
        return read_images(self.captions.images(split), side, self.config.cache, frozen)

    @cached_property
    def references(self) -> Sequence[Sequence[str]]:
        """References of each image of the split that is scored, as words."""
        images = self.captions.images(self.config.split)
        words = iter(split_words((line for i in images for line in i.captions), self.scores))
        return [[next(words) for _ in image.captions] for image in images]

    def describe(self) -> Mapping[str, object]:
        """Source, fingerprints, sizes, and which scores are computed how."""
        inputs = self.inputs[self.config.split]
        return {
            "captions": self.captions.name,
            "note": self.captions.note,
            "fingerprint": self.captions.fingerprint(),
            "seen": inputs.fingerprint(),
            "words": len(self.processor.vocabulary),
            "table_rows": self.config.table_rows(len(self.processor.vocabulary)),
            "images": {split: len(self.captions.images(split)) for split in self.needed},
            "sentences": {
                split: sum(len(p.captions) for p in self.captions.images(split))
                for split in self.needed
            },
            "grid": list(inputs.shape),
            "scored": self.config.split,
            "scores": self.scores.describe(),
        }

    def feed(self) -> Feed:
        """A row for each caption of the training split.

        Raises:
            InvalidValueError: more steps are to maximise CIDEr-D than the epochs have.
        """
        vocabulary, config = self.processor.vocabulary, self.config
        lines = [image.captions for image in self.captions.images("train")]
        encoded = [[vocabulary.encode(line) for line in captions] for captions in lines]
        objective = None
        if config.scst_steps:
            from embshare.tasks.captioning.self_critical import Reward, SelfCritical

            objective = SelfCritical(
                Reward(lines, vocabulary),
                vocabulary,
                steps=config.scst_steps,
                most_words=config.most_words,
            )
        feed = Feed(
            rows=_Rows(encoded, most_words=config.most_words),
            collate=partial(
                collate_captions, inputs=self.inputs["train"], numbered=objective is not None
            ),
            objective=objective,
            rate=self._rate if config.scst_steps else None,
        )
        if config.training.epochs is not None:
            self._check_epochs(feed)
        return feed

    def _check_epochs(self, feed: Feed) -> None:
        from embshare.tasks.training import counted  # imports transformers

        if fault := self.config.scst_fault(counted(self.training, feed).steps):
            raise InvalidValueError(what="CaptioningConfig", faults=[fault])

    def _rate(self, remaining: int) -> float:
        """The factor of the learning rate from the number of steps that are left."""
        return self.config.scst_rate if remaining <= self.config.scst_steps else 1.0

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Scores of the captions that a model writes for a split; samples go to the folder.

        Raises:
            DataError: a Java program that scores failed.
        """
        split, limit = self.config.split, self.config.eval_limit
        images = self.captions.images(split)[:limit]
        written = list(self.processor.write(model, self.inputs[split].first(limit)))
        references = self.references[:limit]
        found = score_words(split_words(written, self.scores), references, self.scores)
        described = {**self.scores.describe(), "scores": found.corpus}
        _write_samples(folder, images, self._shown(), written, found.cider, described)
        words = [len(caption.split()) for caption in written]
        beside = {
            "images": float(len(images)),
            "words_per_caption": sum(words) / len(words),
            "different_captions": len(set(written)) / len(written),
        }
        return {**found.corpus, **beside}

    def _shown(self) -> Pixels:
        inputs = self.inputs[self.config.split]
        if inputs.dtype == "uint8":
            return inputs.arrays(range(min(SHOWN, len(inputs))))
        side = self.processor.config.side
        if self.config.data is None:
            return draw_split(self.config.split, side)[:SHOWN]
        shown = self.captions.images(self.config.split)[:SHOWN]
        return np.stack([decode(image.path, side) for image in shown if image.path])


@final
class _Rows(Dataset[tuple[int, list[int]]]):
    """One row for each caption: its image's number, and its tokens with the end."""

    def __init__(self, captions: Sequence[Sequence[Sequence[int]]], *, most_words: int) -> None:
        self._rows = [
            (number, [*caption[:most_words], EOS])
            for number, several in enumerate(captions)
            for caption in several
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[int, list[int]]:
        return self._rows[index]


def _write_samples(
    folder: Path,
    images: Sequence[CaptionedImage],
    pixels: Pixels,
    written: Sequence[str],
    cider: Sequence[float],
    scores: Mapping[str, object],
) -> None:
    """Write ``samples.json`` with thumbnails, ``predictions.json`` and ``scores.json``.

    ``predictions.json`` is as COCO's evaluation reads results where images have COCO's identifiers;
    elsewhere ``image_id`` is the image's name. ``pixels`` has the first `SHOWN` images at least.
    """
    thumbnails = folder / "images"
    thumbnails.mkdir(exist_ok=True)
    samples = []
    for index, image in enumerate(images[:SHOWN]):
        name = f"{index:03}.png"
        _thumbnail(pixels[index], thumbnails / name)
        samples.append(
            {
                "image": f"images/{name}",
                "source": image.name,
                "prediction": written[index],
                "references": " | ".join(image.captions),
            }
        )
    results = [
        {
            "image_id": image.name if image.image_id is None else image.image_id,
            "caption": caption,
            "cider": round(value, 6),
        }
        for image, caption, value in zip(images, written, cider, strict=True)
    ]
    for name, found in (("samples", samples), ("predictions", results), ("scores", dict(scores))):
        text = json.dumps(found, indent=1, ensure_ascii=False)
        write_text(folder / f"{name}.json", text)


def _thumbnail(pixels: Pixels, path: Path) -> None:
    from PIL import Image

    image = Image.fromarray(pixels)
    if (times := -(-LEAST_SIDE // image.width)) > 1:
        image = image.resize((times * image.width,) * 2, Image.Resampling.NEAREST)
    image.save(path)
