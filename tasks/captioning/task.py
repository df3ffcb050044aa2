"""Captioning as a task: pictures read, models built, trained and evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import final

import numpy as np
from torch import nn

from embshare.errors import InvalidValueError
from embshare.models.matched import ARCHITECTURES
from embshare.tasks.captioning.config import CaptioningConfig
from embshare.tasks.captioning.dataset import SPLITS, CaptionSet, Split
from embshare.tasks.captioning.layouts.finding import load_folder
from embshare.tasks.captioning.pictures.decoding import Pixels, decode
from embshare.tasks.captioning.pictures.seen import encode_all, features_of, pixels_of
from embshare.tasks.captioning.pictures.store import default_folder
from embshare.tasks.captioning.processor import (
    CaptioningProcessor,
    learn_processor,
    load_processor,
)
from embshare.tasks.captioning.rows import CaptionRows, Sight, collate_rows
from embshare.tasks.captioning.samples import SHOWN, write_samples
from embshare.tasks.captioning.scenes.builtin import draw_split, scenes_set
from embshare.tasks.captioning.scores.compute import score_captions
from embshare.tasks.captioning.scores.plan import ScorePlan, make_plan
from embshare.tasks.captioning.self_critical import Reward, SelfCritical
from embshare.tasks.packages import check_packages
from embshare.tasks.settings import TrainSettings
from embshare.tasks.task import Feed, Metric

__all__ = ["Captioning", "PreparedCaptioning"]

NEEDED = ("PIL", "numpy")


@final
@dataclass(frozen=True)
class Captioning:
    """The task before its pictures are read."""

    config: CaptioningConfig = field(default_factory=CaptioningConfig)

    def prepare(
        self, processor: CaptioningProcessor | None = None, *, train: bool = False
    ) -> PreparedCaptioning:
        """Read captions, learn words if none are given, and decode every picture.

        With a processor only the split that is scored has to be there, unless ``train`` is asked
        for. What it was made with stays as it is; the other settings are the task's own.

        Raises:
            CaptioningDataError: captions or pictures are missing or not as they must be; with file
                and line.
            EncoderError: there is no such encoder, or its weights cannot be had.
            ScoreError: a score that is asked for by name cannot be computed here.
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
        references = (line for p in captions.pictures(config.split) for line in p.captions)
        scores = make_plan(
            config.metrics,
            references,
            quick=config.data is None,
            memory=config.java_memory,
            seconds=config.java_seconds,
        )
        processor = processor or learn_processor(config, captions)
        for architecture in ARCHITECTURES:
            processor.model_config(architecture)
        prepared = PreparedCaptioning(config, captions, processor, scores, needed)
        from embshare.tasks.processes import one_after_the_other  # imports accelerate

        with one_after_the_other(shared=config.data is not None):
            _ = prepared.sights
        return prepared

    def load_processor(self, folder: Path) -> CaptioningProcessor:
        """Words, and a frozen encoder, of a model that is there already.

        Raises:
            VocabularyFileError: they cannot be read.
        """
        return load_processor(self.config, folder)


@final
@dataclass(frozen=True)
class PreparedCaptioning:
    """The task with its pictures at hand."""

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
    def sights(self) -> Mapping[Split, Sight]:
        """What a model sees of each split: pixels, or a frozen encoder's features."""
        return {split: Sight(self._array(split)) for split in dict.fromkeys(self.needed)}

    def _array(self, split: Split) -> Pixels | np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
        config, pictures = self.config, self.captions.pictures(split)
        side, frozen = self.processor.config.side, self.processor.frozen
        if config.data is None:
            drawn = draw_split(split, side)
            return drawn if frozen is None else encode_all(frozen, drawn)
        folder = config.cache or default_folder()
        if frozen is None:
            return pixels_of(pictures, side, folder)
        return features_of(pictures, side, frozen, folder)

    def describe(self) -> Mapping[str, object]:
        """Source, fingerprints, sizes, and which scores are computed how."""
        array = self.sights[self.config.split].array
        return {
            "captions": self.captions.name,
            "note": self.captions.note,
            "fingerprint": self.captions.fingerprint(),
            "seen": blake2b(np.ascontiguousarray(array).data, digest_size=8).hexdigest(),
            "words": len(self.processor.vocabulary),
            "table_rows": self.config.table_rows(len(self.processor.vocabulary)),
            "pictures": {split: len(self.captions.pictures(split)) for split in self.needed},
            "sentences": {
                split: sum(len(p.captions) for p in self.captions.pictures(split))
                for split in self.needed
            },
            "grid": list(array.shape[1:]),
            "scored": self.config.split,
            "scores": self.scores.describe(),
        }

    def feed(self) -> Feed:
        """A row for each caption of the training split.

        Raises:
            InvalidValueError: more steps are to maximise CIDEr-D than the epochs have.
        """
        vocabulary, config = self.processor.vocabulary, self.config
        lines = [picture.captions for picture in self.captions.pictures("train")]
        encoded = [[vocabulary.encode(line) for line in captions] for captions in lines]
        objective = None
        if config.scst_steps:
            objective = SelfCritical(
                Reward(lines, vocabulary),
                vocabulary,
                steps=config.scst_steps,
                most_words=config.most_words,
            )
        feed = Feed(
            rows=CaptionRows(encoded, most_words=config.most_words),
            collate=partial(
                collate_rows, sight=self.sights["train"], numbered=objective is not None
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
        """The factor of the learning rate when so many steps are left."""
        return self.config.scst_rate if remaining <= self.config.scst_steps else 1.0

    def evaluate(self, model: nn.Module, *, folder: Path) -> Mapping[str, float]:
        """Scores of the captions that a model writes for a split; samples go to the folder.

        Raises:
            ScoreError: a program that scores failed.
        """
        split = self.config.split
        pictures = self.captions.pictures(split)
        written = list(self.processor.write(model, self.sights[split]))
        found = score_captions(written, [picture.captions for picture in pictures], self.scores)
        described = {**self.scores.describe(), "scores": found.corpus}
        write_samples(folder, pictures, self._thumbnails(), written, found.cider, described)
        words = [len(caption.split()) for caption in written]
        beside = {
            "pictures": float(len(pictures)),
            "words_per_caption": sum(words) / len(words),
            "different_captions": len(set(written)) / len(written),
        }
        return {**found.corpus, **beside}

    def _thumbnails(self) -> Pixels:
        array = self.sights[self.config.split].array
        if array.dtype == np.uint8:
            return array
        side = self.processor.config.side
        if self.config.data is None:
            return draw_split(self.config.split, side)[:SHOWN]
        shown = self.captions.pictures(self.config.split)[:SHOWN]
        return np.stack([decode(picture.path, side) for picture in shown if picture.path])
