"""How long sentences may be for a model of transformers, which may have so many positions."""

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
    """Symbols that a model can read, `ANY` where nothing bounds them."""

    source: int = ANY
    target: int = ANY

    @classmethod
    def of(cls, model: nn.Module) -> Positions:
        """What the configuration of a model says; matched models have none.

        ``n_positions`` does not count: T5's configurations have it, and T5 does not. That of GPT-2
        is found by the other name as well.
        """
        config = getattr(model, "config", None)
        return cls(_declared(config, "encoder"), _declared(config, "decoder"))


def _declared(config: Any, part: Literal["encoder", "decoder"]) -> int:
    """Of one half; some configurations are made of two."""
    names = (f"max_{part}_position_embeddings", "max_position_embeddings")
    places = (getattr(config, part, None), config)
    found = (getattr(place, name, None) for place in places for name in names)
    return next((count for count in found if isinstance(count, int)), ANY)


@dataclass(frozen=True)
class LongSentence:
    """One that a model has to read; the longest of its kind stands for the others."""

    place: str
    """Where it is, for an error."""
    side: Side
    symbols: int

    def check(self, positions: Positions) -> None:
        """See whether a model can read it.

        Raises:
            SentenceTooLongError: it has not as many positions.
        """
        most = positions.source if self.side == "source" else positions.target
        if self.symbols > most:
            raise SentenceTooLongError(place=self.place, symbols=self.symbols, positions=most)
