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
    """A tokenizer cannot be had, or lacks what a task needs of it."""

    def __init__(self, *, name: str, finding: str) -> None:
        super().__init__(
            f"`{name}` must be a tokenizer of transformers with a symbol for padding, but "
            f"{finding}. Name a folder with a tokenizer.json, or a name of the hub."
        )
        self.name, self.finding = name, finding


class PretrainedRunError(EmbshareError, ValueError):
    """A folder is not a run that models can start from."""

    def __init__(self, *, folder: Path, finding: str, way_out: str) -> None:
        super().__init__(
            f"`{folder}` must be a run whose model others can start from, but {finding}. {way_out}"
        )
        self.folder, self.finding, self.way_out = folder, finding, way_out
