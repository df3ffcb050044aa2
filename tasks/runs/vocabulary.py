"""Choose the tokenizer of a trained model, whose embedding rows belong to its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from embshare.tasks.building import (
    ModelNotForTaskError,
    has_weights,
    is_factory,
    is_matched,
    not_of_transformers,
)
from embshare.tasks.runs.config import RunConfig

__all__ = ["with_own_tokenizer"]

TOKENIZER: Final = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "source.spm", "vocab.model"),
)
"""Files that show that a folder has a tokenizer."""


def with_own_tokenizer(config: RunConfig) -> RunConfig:
    """Set a trained model's own tokenizer, unless the settings name one, or a run with one.

    A newly learned vocabulary would give every row of its embedding table another meaning, and
    only the scores would show it.

    Raises:
        ModelNotForTaskError: a folder has trained weights and no tokenizer, or it has one and the
            settings ask for a word-level vocabulary; or the hub has no such model.
    """
    settings, model = config.settings, config.model
    if "tokenizer" not in type(settings).model_fields or config.teacher is not None:
        return config
    decided = (getattr(settings, name, None) for name in ("tokenizer", "init_from"))
    if any(found is not None for found in decided) or not _is_trained(model):
        return config
    found = _tokenizer_of(model)
    if found is None or getattr(settings, "level", "subword") == "word":
        what = "no tokenizer beside them" if found is None else "a subword vocabulary"
        raise ModelNotForTaskError(
            model=model,
            finding=f"it has trained weights and {what}, and a vocabulary learned from the "
            "data would give the rows of its embedding table other meanings",
            hint="Name the tokenizer that it was trained with (`tokenizer`), or a folder with "
            "its config.json alone, to train the architecture from a random start.",
        )
    chosen = type(settings)(**{**dict(settings), "tokenizer": found})
    return config.model_copy(update={"settings": chosen})


def _is_trained(model: str) -> bool:
    if is_matched(model) or is_factory(model) or model.startswith("embshare:"):
        return False
    folder = Path(model)
    if folder.is_dir():
        return has_weights(folder)
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:  # before a text is read for it
        raise not_of_transformers(model, error) from error
    return True


def _tokenizer_of(model: str) -> str | None:
    """Folder or name with the tokenizer of a model; in a run it is beside the model."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    places = (folder, folder.parent / "processor")
    beside = (place for place in places if any((place / file).is_file() for file in TOKENIZER))
    found = next(beside, None)
    return None if found is None else str(found)
