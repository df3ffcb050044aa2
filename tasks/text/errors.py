"""What can be wrong with a file of text, a tokenizer or a pre-trained run."""

from __future__ import annotations

from pathlib import Path

from embshare.errors import EmbshareError

__all__ = [
    "BadFileError",
    "BadLineError",
    "PretrainedRunError",
    "SetNotFoundError",
    "TokenizerError",
    "VocabularySizeError",
]


class BadFileError(EmbshareError, ValueError):
    """A file of a data set is missing, empty, or not of its format."""

    def __init__(self, *, path: Path, needs: str, finding: str, way_out: str) -> None:
        super().__init__(f"`{path}` must {needs}, but {finding}. {way_out}")
        self.path, self.needs, self.finding, self.way_out = path, needs, finding, way_out


class BadLineError(BadFileError):
    """A line of a file is not as it must be."""

    def __init__(self, *, path: Path, line: int, needs: str, finding: str, way_out: str) -> None:
        EmbshareError.__init__(
            self, f"`{path}`, line {line:,}, must {needs}, but {finding}. {way_out}"
        )
        self.path, self.line = path, line
        self.needs, self.finding, self.way_out = needs, finding, way_out


class SetNotFoundError(EmbshareError, ValueError):
    """A data set of the hub cannot be had, or is not what it has to be."""

    def __init__(self, *, name: str, finding: str) -> None:
        super().__init__(
            f"`{name}` must be a data set that the package datasets can load, but {finding}. Name "
            "one as the hub spells it, or a folder of your own with `data`."
        )
        self.name, self.finding = name, finding


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
    """A folder is not a run that models can start from."""

    def __init__(self, *, folder: Path, finding: str, way_out: str) -> None:
        super().__init__(
            f"`{folder}` must be a run whose model others can start from, but {finding}. {way_out}"
        )
        self.folder, self.finding, self.way_out = folder, finding, way_out
