"""Save and load trained models: one format for each kind of model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import safetensors.torch
from torch import nn

import embshare
from embshare.errors import EmbshareError
from embshare.runtime.bank import bank_of
from embshare.tasks.building import has_weights
from embshare.tasks.task import Processor

__all__ = ["ModelFolderError", "load_trained", "save_trained"]

WEIGHTS: Final = "model.safetensors"
HALF_WRITTEN: Final = (".saving-*", ".model.safetensors.*", ".embshare.json.*")
"""Temporary files of `save_pretrained` and `embshare.save`, which are no bytes of the model."""


class ModelFolderError(EmbshareError, ValueError):
    """A folder does not hold the model of a run."""

    def __init__(self, *, folder: Path, finding: str) -> None:
        super().__init__(
            f"`{folder}` must be the model of a run, but {finding}. Name a folder that "
            "`embshare train` wrote to its end."
        )
        self.folder, self.finding = folder, finding


def save_trained(model: nn.Module, folder: Path) -> None:
    """Save a model.

    A model of transformers becomes a folder of transformers, shared or not. Another is written by
    `embshare.save` if it is shared, and as ``model.safetensors`` if it is dense.

    Args:
        model: model on any device.
        folder: folder, made if needed. Temporary files of a killed process are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in HALF_WRITTEN:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if callable(save := getattr(model, "save_pretrained", None)):
        save(folder)
    elif bank_of(model) is not None:
        embshare.save(model, folder)
    else:
        safetensors.torch.save_model(model, str(folder / WEIGHTS))


def load_trained(folder: Path, processor: Processor, name: str) -> nn.Module:
    """Load what `save_trained` wrote, on the CPU and in evaluation mode.

    Args:
        folder: folder of the model.
        processor: processor that built the model.
        name: name that it was built from.
    Raises:
        ModelFolderError: the folder holds no weights, or those saved from a different model.
        CheckpointError: a shared model's files are not as they were written.
    """
    if not folder.is_dir() or not has_weights(folder):
        raise ModelFolderError(folder=folder, finding="it holds no weights")
    if (folder / "config.json").is_file():
        return processor.build(str(folder), 0).eval()
    model = processor.build(name, 0)
    if (folder / "embshare.json").is_file():
        return embshare.load(folder, model).eval()
    try:
        safetensors.torch.load_model(model, str(folder / WEIGHTS))
    except (RuntimeError, safetensors.SafetensorError) as error:
        lines = str(error).splitlines()
        raise ModelFolderError(folder=folder, finding=f"cannot be read ({lines[0]})") from error
    return model.eval()
