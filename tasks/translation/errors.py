"""Errors of subword vocabularies; those of data are `embshare.tasks.errors`."""

from __future__ import annotations

from embshare.errors import EmbshareError

__all__ = ["SubwordFileError", "SubwordSizeError", "SubwordSymbolsError"]


class SubwordSizeError(EmbshareError, ValueError):
    """Subwords are asked for that cannot be learned."""

    def __init__(self, *, needs: int, has: int) -> None:
        super().__init__(
            f"`vocabulary_size` must be at least {needs:,}, for each byte, padding, start and end, "
            f"but is {has:,}. Raise it."
        )
        self.needs, self.has = needs, has


class SubwordSymbolsError(EmbshareError, ValueError):
    """A tokenizer has one symbol for what must be two."""

    def __init__(self, *, name: str, token: str) -> None:
        super().__init__(
            f"`{name}` must be a tokenizer whose `pad_token` and `eos_token` differ, but both are "
            f"{token!r}: a model never writes padding, and could not end a sentence. Give it "
            "another `pad_token` and save it, or name another tokenizer."
        )
        self.name, self.token = name, token


class SubwordFileError(EmbshareError, ValueError):
    """Saved subwords cannot be read, or a tokenizer that was named."""

    def __init__(self, *, path: str, finding: str) -> None:
        super().__init__(
            f"`{path}` must be subwords as they were saved beside their model, or a tokenizer of "
            f"transformers, but cannot be read: {finding}. Name the folder that `embshare train` "
            "wrote, or a tokenizer's."
        )
        self.path, self.finding = path, finding
