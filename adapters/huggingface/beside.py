"""Copy files beside a model's weights that its users need: tokenizers, processors, modules.

Tokenizers, processors, chat templates and the modules of sentence-transformers go by many names,
and new ones come. So everything is copied but what belongs to the weights, to a training or to the
machine.
"""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["LEFT", "copy_beside", "fetch_beside", "model_folder"]

LEFT: Final = (
    # weights, under all names that they are kept under
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.ot"),
    *("*.onnx", "*.onnx_data", "*.tflite", "*.mlmodel", "*.npz", "*.pkl", "*.index.json", "*.zip"),
    "adapter_*",
    # a training's, and what is of the dense model alone
    *("trainer_state.json", "training_args.*", "embshare.json", "README.md", "*_results.*"),
    *(".*", "*.lock", "*.py"),
)
"""Files of a model's folder that are not copied."""

MODULES: Final = "modules.json"
"""File in which sentence-transformers lists its modules and their folders."""

TEMPLATES: Final = "additional_chat_templates"


def model_folder(folder: Path) -> Path:
    """The folder with the ``config.json``: older models of sentence-transformers have it inside.

    Args:
        folder: as a user names it; without such a file in reach it is returned as it is.
    """
    if (folder / "config.json").is_file():
        return folder
    inside = (place for place in _modules(folder) if (place / "config.json").is_file())
    first = next(inside, folder)
    # Pooling has a config.json too, which is of no model of transformers.
    return first if '"model_type"' in _text(first / "config.json") else folder


def copy_beside(source: Path, folder: Path) -> None:
    """Copy all that makes a folder complete, over what is there.

    Args:
        source: a model's folder, as `model_folder` takes it.
        folder: made where it is missing; the model is to be written where it is in ``source``.
    Raises:
        OSError: a file cannot be read or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root, home = source.resolve(), model_folder(source).resolve()
    for place in dict.fromkeys((root, home)):
        target = folder / place.relative_to(root)
        target.mkdir(exist_ok=True)
        for file in _kept(place):
            shutil.copy2(file, target)
        if (place / TEMPLATES).is_dir():
            shutil.copytree(place / TEMPLATES, target / TEMPLATES, dirs_exist_ok=True)
    for module in _modules(source):
        if module.resolve() not in (root, home):  # its weights are not the model's: Dense
            target = folder / module.resolve().relative_to(root)
            shutil.copytree(module, target, dirs_exist_ok=True)


def fetch_beside(name: str) -> Path:
    """A folder with what a model on the hub has beside its weights.

    Args:
        name: ``owner/model``.
    Raises:
        OSError: it cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    place = Path(snapshot_download(name, ignore_patterns=[*LEFT, *(f"*/{each}" for each in LEFT)]))
    modules = [module.name for module in _modules(place) if module != place]
    if modules:
        snapshot_download(name, allow_patterns=[f"{module}/*" for module in modules])
    return place


def _kept(folder: Path) -> Iterator[Path]:
    for file in folder.iterdir():
        if file.is_file() and not any(fnmatch.fnmatch(file.name, pattern) for pattern in LEFT):
            yield file


def _modules(folder: Path) -> Iterator[Path]:
    """List the folders of a model of sentence-transformers, all inside of its folder."""
    try:
        entries = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        paths = [str(entry["path"]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for path in paths:
        place = folder / path
        if place.is_dir() and place.resolve().is_relative_to(folder.resolve()):
            yield place


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return ""
