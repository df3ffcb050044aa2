"""What can be wrong with the scores that a search is given."""

from __future__ import annotations

from embshare.errors import EmbshareError

__all__ = ["NoFiniteScoreError"]


class NoFiniteScoreError(EmbshareError, ValueError):
    """A model leaves a sequence without a symbol that could come next."""

    def __init__(self, *, row: int, position: int) -> None:
        super().__init__(
            "the model must give some next symbol of every sequence a finite log-probability, but "
            f"gives none at symbol {position:,} of row {row:,}. It has diverged in training: lower "
            "the learning rate, or take an earlier checkpoint. If it has not, let the end symbol "
            "come, which may be banned."
        )
        self.row, self.position = row, position
