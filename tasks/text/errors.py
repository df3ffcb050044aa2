"""What can be wrong with a tokenizer or a pre-trained run."""

from __future__ import annotations

from pathlib import Path

from embshare.errors import EmbshareError

__all__ = ["PretrainedRunError", "TokenizerError"]


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
