"""A shared model as a folder that can be used and uploaded: weights, tokenizer, model card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from embshare.adapters.huggingface.beside import copy_beside, fetch_beside, model_folder
from embshare.adapters.huggingface.card import card
from embshare.errors import CheckpointError

__all__ = ["export", "is_pretrained"]


def is_pretrained(model: nn.Module) -> bool:
    """Whether a model is one of transformers, which is not imported to find out."""
    modeling = sys.modules.get("transformers.modeling_utils")
    return modeling is not None and isinstance(model, modeling.PreTrainedModel)


def export(model: Any, folder: Path, *, made_from: str) -> None:
    """Write a shared model of transformers, its card, and all that its source has beside it.

    Args:
        model: as `share_from_embedding` returned it.
        folder: made where it is missing.
        made_from: a folder, a name on the hub, or ``package.module:factory``.
    Raises:
        CheckpointError: the folder cannot be written, or what belongs to a model of the hub cannot
            be fetched.
    """
    source = Path(made_from)
    on_hub = not source.exists() and ":" not in made_from
    title = source.resolve().name if source.exists() else made_from
    text = card(model, name=title, folder=folder.name, base=made_from if on_hub else None)
    missing: Exception | None = None
    if on_hub:
        try:
            source = fetch_beside(made_from)
        except (OSError, ValueError) as error:
            missing = error  # the model is saved first: it may have taken long
    try:
        home = folder
        if source.is_dir():
            copy_beside(source, folder)
            home = folder / model_folder(source).relative_to(source)
        model.save_pretrained(home)
        (folder / "README.md").write_text(text, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            path=folder,
            finding=f"cannot be written ({getattr(error, 'strerror', None) or error})",
            hint="Make room or choose another folder.",
        ) from error
    if missing is not None:
        raise CheckpointError(
            path=folder,
            finding=f"holds the model, but not what `{made_from}` has beside it ({missing})",
            hint="Copy its tokenizer and processors there.",
        ) from missing
