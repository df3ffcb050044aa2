"""Log-probabilities of the next token, one position at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar, final

import torch
from torch import Tensor

from embshare.models.matched import BackboneState, MatchedSeq2Seq, Memory, reorder_state

__all__ = ["Scorer", "SequenceScorer", "SequenceState"]

State = TypeVar("State")


class Scorer(Protocol[State]):
    """A model that reads one token of each of ``R`` rows at a time.

    Its state is a value, so that a search can continue a row twice, or drop it.
    """

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one token of each row.

        Args:
            tokens: ``[R]``, int64; the start token first.
            state: state of the rows before.
        Returns:
            Natural logarithms of the next token's probabilities, ``[R, V]``, ``-inf`` where it is
            forbidden, and the state after ``tokens``.
        """
        ...

    def reorder(self, state: State, rows: Tensor) -> State:
        """Select the state of rows ``[R']``; a row may occur twice or not at all."""
        ...


class SequenceState(NamedTuple):
    """State of a `SequenceScorer`."""

    memory: Memory
    """Encoded source of each row."""
    read: BackboneState | None
    """State of the decoder; ``None`` before the first token."""


@final
class SequenceScorer:
    """Scorer of a `MatchedSeq2Seq`, which reads one position at a time and keeps its state.

    Args:
        model: model in evaluation mode, with tokens or features as source.
        banned: forbidden tokens: padding, the start.
    """

    def __init__(self, model: MatchedSeq2Seq, *, banned: Sequence[int] = ()) -> None:
        self._model, self._banned = model, list(banned)

    def start(self, memory: Memory) -> SequenceState:
        """Make the state before the first token from what ``model.encode`` returned."""
        return SequenceState(memory, None)

    def step(self, tokens: Tensor, state: SequenceState) -> tuple[Tensor, SequenceState]:
        """Read one token of each row, as in `Scorer`."""
        logits, read = self._model.decode(tokens[:, None], state.memory, state.read)
        scores = logits[:, -1].float()
        scores[:, self._banned] = -torch.inf
        return scores.log_softmax(dim=-1), SequenceState(state.memory, read)

    def reorder(self, state: SequenceState, rows: Tensor) -> SequenceState:
        """Select the state of rows, as in `Scorer`."""
        hidden, mask = state.memory
        taken = Memory(
            hidden.index_select(0, rows), None if mask is None else mask.index_select(0, rows)
        )
        return SequenceState(taken, state.read and reorder_state(state.read, rows))
