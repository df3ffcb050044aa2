"""Settings of the captioning task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, field_validator, model_validator

from embshare.tasks.settings import TaskConfig, TrainSettings

__all__ = ["SCORES", "CaptioningConfig"]

SCORES: Final = ("bleu", "rouge_l", "cider", "meteor", "spice")
SCENE_ROWS: Final = 4_096  # EPS reads all weights of the default sizes from a table of 96 columns
GONE: Final = {"java_memory", "java_seconds"}  # earlier runs have them; pycocoevalcap sets its own


class CaptioningConfig(TaskConfig):
    """Settings of images, captions, the image encoder, the matched models and scoring.

    Raises:
        InvalidValueError: a field is unknown or out of range, or two contradict each other.
    """

    scoring: ClassVar = frozenset(
        {
            *("data", "images", "cache", "split", "metrics"),
            *("most_words", "beam", "length_penalty", "training", "eval_limit"),
        }
    )

    data: Path | None = None
    """A folder in a layout of Flickr8k, Flickr30k or COCO, or its file of captions; ``None`` draws
    scenes."""
    images: Path | None = None
    """Folder of the images, where it is not in or beside `data`."""
    cache: Path | None = None
    """Folder for decoded images and features; ``None`` is embshare in the cache folder of the
    package datasets."""
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Side of an image in pixels, as the encoder reads it; ``None``: 32 for scenes, else 112."""
    encoder: str = "small"
    """Image encoder: ``small``, a few convolutions, or a model of timm (``resnet18``)."""
    encoder_width: Annotated[int, Field(ge=8, multiple_of=8)] = 64
    """Channels of the last convolutions of ``small``."""
    encoder_weights: str | None = None
    """File of the image encoder's weights, or ``default`` for those that timm downloads; ``None``
    trains it from scratch."""
    frozen: bool = False
    """Freeze the image encoder: its features are computed once and kept on disk, those of drawn
    scenes at each start."""
    shift: Annotated[int, Field(ge=0)] = 0
    """Largest number of pixels by which an image is moved at random in training."""
    least: Annotated[int, Field(ge=1)] = 1
    """Minimum count of a word in the training captions."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Minimum number of rows of the table; those beyond the words are unused, as in a general
    vocabulary. ``None``: 4,096 for scenes, which have 56 words, else as many as words."""
    width: Annotated[int, Field(ge=1)] = 96
    """Width of the embedding table and of all layers."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Layers of the encoder over the grid of image features, and of the decoder."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Number of attention heads."""
    kernel_size: Annotated[int, Field(ge=1)] = 3
    """Kernel size of the convolutions of ``conv``, in positions."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout rate of embeddings and of layers' outputs."""
    most_words: Annotated[int, Field(ge=1)] = 20
    """Maximum number of words in a caption; longer ones are cut in training."""
    beam: Annotated[int, Field(ge=1)] = 3
    """Beam width; 1 is greedy decoding."""
    length_penalty: Annotated[float, Field(ge=0)] = 0.6
    """Exponent of the length by which a caption's log-probability is divided in the beam."""
    scst_steps: Annotated[int, Field(ge=0)] = 0
    """Number of steps at the end of training that maximise CIDEr-D of sampled captions (SCST)."""
    scst_rate: Annotated[float, Field(gt=0)] = 0.1
    """Learning rate of those steps as a multiple of the schedule's; the gradient of a single
    sampled caption is noisy."""
    split: Literal["test", "valid"] = "test"
    """Split that is scored."""
    metrics: tuple[str, ...] | None = None
    """Scores: bleu, rouge_l, cider, meteor, spice; ``None`` is all that this machine can compute,
    for scenes without those that need Java."""
    training: TrainSettings = TrainSettings(steps=300, batch_size=16, learning_rate=1e-2)
    """Steps, batch size and learning rates of one training."""

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, given: Any) -> Any:
        """Set what depends on the data, so that a trained model keeps it on other data."""
        if not isinstance(given, Mapping):
            return given
        fields = {name: value for name, value in given.items() if name not in GONE}
        scenes = fields.get("data") is None
        resolved = {"image_size": 32 if scenes else 112, "rows": SCENE_ROWS if scenes else 1}
        return fields | {n: value for n, value in resolved.items() if fields.get(n) is None}

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = [name for name in metrics or () if name not in SCORES]
        if unknown:
            raise ValueError(f"must be of {', '.join(SCORES)}")
        if metrics is not None and "cider" not in metrics:
            raise ValueError("must have cider among them, by which models are compared")
        return metrics

    @model_validator(mode="after")
    def _no_contradiction(self) -> CaptioningConfig:
        if self.frozen and self.encoder_weights is None:
            raise ValueError(
                "`frozen` needs `encoder_weights`: an encoder that was never trained sees nothing"
            )
        if self.frozen and self.shift:
            raise ValueError("`shift` needs an encoder that is trained: it is `frozen`")
        if self.training.epochs is None and (fault := self.scst_fault(self.training.steps)):
            raise ValueError(fault)
        return self

    def scst_fault(self, steps: int) -> str | None:
        """Return what is wrong with `scst_steps` in a training of ``steps`` steps, if anything.

        Args:
            steps: number of steps; counted from the rows where settings ask for epochs.
        """
        if self.scst_steps <= steps:
            return None
        return (
            f"`scst_steps` must be at most the {steps} steps of training, but is {self.scst_steps}"
        )

    @property
    def side(self) -> int:
        """Side of an image in pixels, with its default resolved."""
        assert self.image_size is not None, "`_resolve` sees to this"
        return self.image_size

    def table_rows(self, words: int) -> int:
        """Number of rows of the table for a number of words, special tokens counted."""
        assert self.rows is not None, "`_resolve` sees to this"
        return max(words, self.rows)
