"""A shared model as a folder that can be used and uploaded: weights, tokenizer, model card."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from torch import nn

from embshare.adapters.huggingface.card import card
from embshare.errors import CheckpointError

__all__ = ["export", "is_pretrained"]

TOKENIZER: Final = (
    *("tokenizer*", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    *("spiece.model", "sentencepiece*", "chat_template*", "preprocessor_config.json"),
)
"""What a folder may hold besides the model that turns text into its inputs."""


def is_pretrained(model: nn.Module) -> bool:
    """Whether a model is one of transformers, which is not imported to find out."""
    modeling = sys.modules.get("transformers.modeling_utils")
    return modeling is not None and isinstance(model, modeling.PreTrainedModel)


def export(model: Any, folder: Path, *, made_from: str) -> None:
    """Write a shared model of transformers, its card, and the tokenizer that its source has.

    Args:
        model: as `share_from_embedding` returned it.
        folder: made where it is missing.
        made_from: a folder, a name on the hub, or ``package.module:factory``.
    Raises:
        CheckpointError: the folder cannot be written.
    """
    source = Path(made_from)
    on_hub = not source.exists() and ":" not in made_from
    title = source.resolve().name if source.exists() else made_from
    text = card(model, name=title, folder=folder.name, base=made_from if on_hub else None)
    try:
        model.save_pretrained(folder)
        (folder / "README.md").write_text(text, encoding="utf-8")
        if source.is_dir():
            _copy_tokenizer(source, folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            path=folder,
            finding=f"cannot be written ({getattr(error, 'strerror', None) or error})",
            way_out="Make room or choose another folder.",
        ) from error
    if on_hub:
        _fetch_tokenizer(made_from, folder)


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for pattern in TOKENIZER:
        for file in source.glob(pattern):
            if file.is_file() and source.resolve() != folder.resolve():
                shutil.copy2(file, folder)


def _fetch_tokenizer(name: str, folder: Path) -> None:
    """A model without a tokenizer, of images say, is none the worse."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError):
        return
    tokenizer.save_pretrained(folder)
