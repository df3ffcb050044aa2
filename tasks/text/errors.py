"""Errors of tokenizers, vocabularies and pretrained runs."""

from __future__ import annotations

from pathlib import Path

from embshare.errors import EmbshareError

__all__ = ["PretrainedRunError", "TokenizerError", "VocabularySizeError"]


class TokenizerError(EmbshareError, ValueError):
    """A tokenizer cannot be loaded, or lacks what a task needs."""

    def __init__(
        self,
        *,
        name: str,
        needs: str,
        finding: str,
        hint: str = "Name a folder with a tokenizer.json, or a name of the hub.",
    ) -> None:
        wanted = f" with {needs}" if needs else ""
        super().__init__(
            f"`{name}` must be a tokenizer of transformers{wanted}, but {finding}. {hint}"
        )
        self.name, self.needs, self.finding, self.hint = name, needs, finding, hint


class VocabularySizeError(EmbshareError, ValueError):
    """A vocabulary of this size cannot be learned."""

    def __init__(self, *, needs: str, has: int | None) -> None:
        super().__init__(f"`vocabulary_size` must be {needs}, but is {has}. Raise it.")
        self.needs, self.has = needs, has


class PretrainedRunError(EmbshareError, ValueError):
    """A folder is not a run that models can be initialized from."""

    def __init__(self, *, folder: Path, finding: str, hint: str) -> None:
        super().__init__(
            f"`{folder}` must be a run whose model others can start from, but {finding}. {hint}"
        )
        self.folder, self.finding, self.hint = folder, finding, hint
