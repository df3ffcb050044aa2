"""Number of positions of a model of transformers, and the longest sentences of the data."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from torch import nn

from embshare.tasks.translation.errors import SentenceTooLongError

__all__ = ["ANY", "LongSentence", "Positions", "Side"]

Side: TypeAlias = Literal["source", "target"]
ANY: Final = sys.maxsize


@dataclass(frozen=True)
class Positions:
    """Maximum numbers of tokens that a model can read; `ANY` where nothing bounds them."""

    source: int = ANY
    target: int = ANY

    @classmethod
    def of(cls, model: nn.Module) -> Positions:
        """The positions that a model's configuration declares; matched models have no bound.

        ``n_positions`` does not count: T5's configurations have it, and T5 does not. That of GPT-2
        is found by the other name as well.
        """
        config = getattr(model, "config", None)
        return cls(_declared(config, "encoder"), _declared(config, "decoder"))


def _declared(config: Any, part: Literal["encoder", "decoder"]) -> int:
    """Positions of one half; some configurations consist of two."""
    names = (f"max_{part}_position_embeddings", "max_position_embeddings")
    places = (getattr(config, part, None), config)
    found = (getattr(place, name, None) for place in places for name in names)
    return next((count for count in found if isinstance(count, int)), ANY)


@dataclass(frozen=True)
class LongSentence:
    """The longest sentence of a split and language, which stands for the others."""

    place: str
    """Split, language and row, for an error."""
    side: Side
    tokens: int

    def check(self, positions: Positions) -> None:
        """Check that a model can read it.

        Raises:
            SentenceTooLongError: the model has too few positions.
        """
        most = positions.source if self.side == "source" else positions.target
        if self.tokens > most:
            raise SentenceTooLongError(place=self.place, tokens=self.tokens, positions=most)
