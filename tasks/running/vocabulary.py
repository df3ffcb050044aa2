"""The vocabulary of a trained model: its rows mean the tokens of the tokenizer it came with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from embshare.tasks.building import ModelNotForTaskError, has_weights, is_matched
from embshare.tasks.running.config import RunConfig

__all__ = ["with_own_tokenizer"]

TOKENIZER: Final = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "source.spm", "vocab.model"),
)
"""By any of these files a folder has a tokenizer."""


def with_own_tokenizer(config: RunConfig) -> RunConfig:
    """Have a run of a trained model use the tokenizer that the model came with.

    A vocabulary that is learned anew would give every row of its table another meaning, and
    nothing but the scores would tell. What settings say of a tokenizer, a run to start from or a
    teacher stays as it is.

    Raises:
        ModelNotForTaskError: a folder has trained weights and no tokenizer, or it has one and the
            settings ask for whole words.
    """
    settings, model = config.settings, config.model
    if "tokenizer" not in type(settings).model_fields or config.teacher is not None:
        return config
    decided = (getattr(settings, name, None) for name in ("tokenizer", "init_from"))
    if any(found is not None for found in decided) or not _is_trained(model):
        return config
    found = _tokenizer_of(model)
    if found is None or getattr(settings, "level", "subword") == "word":
        what = "no tokenizer beside them" if found is None else "subwords, not whole words"
        raise ModelNotForTaskError(
            model=model,
            finding=f"it has trained weights and {what}, and a vocabulary learned from the "
            "data would give the rows of its table other meanings",
            way_out="Name the tokenizer that it was trained with (`tokenizer`), or a folder with "
            "its config.json alone, to train the architecture from a random start.",
        )
    told = type(settings)(**{**dict(settings), "tokenizer": found})
    return config.model_copy(update={"settings": told})


def _is_trained(model: str) -> bool:
    if is_matched(model) or model.startswith("embshare:"):
        return False
    folder = Path(model)
    return has_weights(folder) if folder.is_dir() else _is_on_hub(model)


def _is_on_hub(name: str) -> bool:
    """Whether there is such a model; of a name that is misspelt, its building tells."""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError):
        return False
    return True


def _tokenizer_of(model: str) -> str | None:
    """A folder or name that has it: the model's own, or the one beside it in a run."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    places = (folder, folder.parent / "processor")
    beside = (place for place in places if any((place / file).is_file() for file in TOKENIZER))
    found = next(beside, None)
    return None if found is None else str(found)
