"""Errors of decoding."""

from __future__ import annotations

from embshare.errors import EmbshareError

__all__ = ["NoFiniteScoreError"]


class NoFiniteScoreError(EmbshareError, ValueError):
    """A model gives no next token of a sequence a finite score."""

    def __init__(self, *, row: int, position: int) -> None:
        super().__init__(
            "the model must give some next token of every sequence a finite log-probability, but "
            f"gives none at token {position:,} of row {row:,}. Its training has diverged: lower "
            "the learning rate, or take an earlier checkpoint. If it has not, allow the end token, "
            "which may be banned."
        )
        self.row, self.position = row, position
