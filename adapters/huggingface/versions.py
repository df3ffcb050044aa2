"""Support of transformers 4.57, which leaves to a quantizer what later versions do.

It is found out by what is there, not by a number: a method that a version lacks is not covered.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from torch import nn

from embshare.adapters.huggingface.entry import Entry
from embshare.sharing import BANK

__all__ = ["files_of", "is_of_bank", "keep_names", "take_names"]

RENAMING: Final = "_get_key_renaming_mapping"
INDEX: Final = "model.safetensors.index.json"


def files_of(context: Mapping[str, Any], folder: str, entry: Entry) -> list[str]:
    """The files that a model's weights will be read from.

    Since version 5 a quantizer gets them. Before, they are looked for where a local folder has
    them, and taken where its configuration is the one that was read: not so in a subfolder.

    Args:
        context: keyword arguments of a quantizer.
        folder: the name that was loaded, of a folder or on the hub.
        entry: the one that was read.
    Returns:
        Nothing where they cannot be known; then nothing is checked before they are read.
    """
    if "checkpoint_files" in context:
        return list(context["checkpoint_files"] or ())
    place = Path(folder)
    if not _describes(place / "config.json", entry):
        return []
    names = _listed(place / INDEX) or ["model.safetensors"]
    files = [place / name for name in names]
    return [str(file) for file in files] if all(file.is_file() for file in files) else []


def _describes(config: Path, entry: Entry) -> bool:
    if not config.is_file():
        return False
    found = json.loads(config.read_text(encoding="utf-8"))
    return bool(found.get("quantization_config") == entry.model_dump(mode="json"))


def _listed(index: Path) -> list[str]:
    """The files of a folder whose weights are in several."""
    if not index.is_file():
        return []
    return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))


def keep_names(model: nn.Module) -> None:
    """Have the bank's tensors found under their own names in whatever class they are loaded into.

    Version 4.57 gives every name the prefix of the base model or takes it off, and drops the rest.
    """
    if hasattr(model, RENAMING):
        model.__dict__[RENAMING] = functools.partial(_names, model)


def take_names(model: nn.Module) -> None:
    """Undo `keep_names`."""
    model.__dict__.pop(RENAMING, None)


def _names(model: Any, names: Iterable[str], *args: Any, **kwargs: Any) -> dict[str, str]:
    names = list(names)
    plain = [name for name in names if not is_of_bank(name)]
    found: dict[str, str] = getattr(type(model), RENAMING)(model, plain, *args, **kwargs)
    return {**found, **{name: name for name in names if is_of_bank(name)}}


def is_of_bank(name: str) -> bool:
    """Whether a name in a file is one that only a shared model has."""
    return name.startswith(f"{BANK}.")
