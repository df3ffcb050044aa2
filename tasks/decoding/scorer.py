"""What a search asks of a model: how likely each next symbol is, one position at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar, final

import torch
from torch import Tensor

from embshare.models.matched import BackboneState, MatchedSeq2Seq, Memory, reorder_state

__all__ = ["Scorer", "SequenceScorer", "SequenceState"]

State = TypeVar("State")


class Scorer(Protocol[State]):
    """A model that reads a symbol of each of ``R`` rows at a time.

    What it has read is a value of its own kind, the state, so that a search can take a row twice,
    or give it up.
    """

    def step(self, symbols: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one symbol of each row.

        Args:
            symbols: ``[R]``, int64; the start symbol first.
            state: of what the rows have read before.
        Returns:
            Natural logarithms of the next symbol's probabilities, ``[R, V]``, ``-inf`` where it
            must not come, and the state after ``symbols``.
        """
        ...

    def reorder(self, state: State, rows: Tensor) -> State:
        """The state of the rows ``[R']``; a row may be taken twice or not at all."""
        ...


class SequenceState(NamedTuple):
    """What a `SequenceScorer` remembers."""

    memory: Memory
    """Of each row's source."""
    read: BackboneState | None
    """Of the symbols so far; ``None`` before the first."""


@final
class SequenceScorer:
    """Scores with a `MatchedSeq2Seq`, which reads one position at a time and remembers the rest.

    Args:
        model: in evaluation mode; its source may be symbols or features.
        banned: symbols that never come: padding, the start.
    """

    def __init__(self, model: MatchedSeq2Seq, *, banned: Sequence[int] = ()) -> None:
        self._model, self._banned = model, list(banned)

    def start(self, memory: Memory) -> SequenceState:
        """The state before the first symbol, from what ``model.encode`` returned."""
        return SequenceState(memory, None)

    def step(self, symbols: Tensor, state: SequenceState) -> tuple[Tensor, SequenceState]:
        """As in `Scorer`."""
        logits, read = self._model.decode(symbols[:, None], state.memory, state.read)
        scores = logits[:, -1].float()
        scores[:, self._banned] = -torch.inf
        return scores.log_softmax(dim=-1), SequenceState(state.memory, read)

    def reorder(self, state: SequenceState, rows: Tensor) -> SequenceState:
        """As in `Scorer`."""
        hidden, mask = state.memory
        taken = Memory(
            hidden.index_select(0, rows), None if mask is None else mask.index_select(0, rows)
        )
        return SequenceState(taken, state.read and reorder_state(state.read, rows))
