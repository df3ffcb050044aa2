"""Layers of the matched family, stacked: the same shell around whichever mixer was chosen."""

from __future__ import annotations

from typing import NamedTuple, final

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from embshare.models.attending import attend
from embshare.models.matched.config import MatchedConfig
from embshare.models.matched.mixers import State, make_mixer, split_heads
from embshare.models.matched.positions import sinusoids

__all__ = ["Backbone", "BackboneState", "LayerState", "reorder_state"]


class LayerState(NamedTuple):
    """State of one layer between two pieces of a sequence."""

    mixer: State
    """The mixer's own, see `embshare.models.matched.mixers`."""
    memory: State
    """Keys and values ``[B, H, S, D / H]`` of the memory; empty where there is none."""


class BackboneState(NamedTuple):
    """State of a causal backbone between two pieces of a sequence."""

    past: int
    """Positions that were read."""
    layers: tuple[LayerState, ...]


@final
class MemoryAttention(nn.Module):
    """Attention over a memory ``[B, S, D]``: a sentence, a grid of image features, anything."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def read(self, memory: Tensor) -> State:
        """Keys and values of a memory: the same for all positions, so computed once."""
        keys = split_heads(self.key(memory), self.heads)
        return keys, split_heads(self.value(memory), self.heads)

    def forward(self, x: Tensor, pairs: State, memory_mask: Tensor | None) -> Tensor:
        allowed = None if memory_mask is None else memory_mask[:, None, None, :].bool()
        query = split_heads(self.query(x), self.heads)
        key, value = pairs
        heads = attend(query, key, value, mask=allowed)
        mixed: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return mixed


@final
class FeedForward(nn.Module):
    """Feed-forward part, applied at each position."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, inner)
        self.contract = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        contracted: Tensor = self.contract(F.gelu(self.expand(x)))
        return contracted


@final
class Layer(nn.Module):
    """Mixer, attention over the memory if there is one, feed-forward: normed, added, in order."""

    def __init__(self, config: MatchedConfig, *, index: int, causal: bool, memory: bool) -> None:
        super().__init__()
        self.mixer_norm = nn.LayerNorm(config.width)
        self.mixer = make_mixer(config, index=index, causal=causal)
        self.memory_norm = nn.LayerNorm(config.width) if memory else None
        self.memory = MemoryAttention(config.width, config.heads) if memory else None
        self.feed_forward_norm = nn.LayerNorm(config.width)
        self.feed_forward = FeedForward(config.width, config.inner_width(causal=causal))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        memory: Tensor | None,
        memory_mask: Tensor | None,
        state: LayerState | None,
    ) -> tuple[Tensor, LayerState]:
        mixed, mixer_state = self.mixer(self.mixer_norm(x), mask, state and state.mixer)
        x = x + self.dropout(mixed)
        pairs: State = state.memory if state else ()
        if self.memory is not None and self.memory_norm is not None:
            if not pairs:
                assert memory is not None, "`Backbone` checks that a memory is given"
                pairs = self.memory.read(memory)
            x = x + self.dropout(self.memory(self.memory_norm(x), pairs, memory_mask))
        x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return x, LayerState(mixer_state, pairs)


@final
class Backbone(nn.Module):
    """``config.layers`` layers and a last norm: ``[B, T, D]`` to ``[B, T, D]``.

    Args:
        config: Architecture and sizes.
        causal: No position sees a later one: a decoder. Otherwise all see all: an encoder.
        memory: Every layer also attends over a memory.
        positions: Add to each position a vector that tells which it is, see `sinusoids`: for
            convolutions, which know nothing beyond their reach.
    """

    def __init__(
        self,
        config: MatchedConfig,
        *,
        causal: bool,
        memory: bool = False,
        positions: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(config, index=index, causal=causal, memory=memory)
            for index in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.reads_memory = memory
        self.positions = positions

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        state: BackboneState | None = None,
    ) -> tuple[Tensor, BackboneState]:
        """Read ``x``, or the next piece of a sequence whose earlier pieces left ``state``.

        Args:
            x: ``[B, T, D]``.
            mask: ``[B, T]``, true at real positions; padding is on the right.
            memory: ``[B, S, D]``; needed for the first piece, later ones find it in the state.
            memory_mask: ``[B, S]``, true at real positions; needed for every piece.
            state: What the call for the piece before returned; causal backbones alone have one.
        Returns:
            ``[B, T, D]``, and the state for the next piece.
        Raises:
            ValueError: a memory is needed and there is none, or given and nothing would read it.
        """
        self._check_memory(memory, state)
        past = state.past if state else 0
        if self.positions:
            x = x + sinusoids(x, start=past)
        states: list[LayerState] = []
        for index, layer in enumerate(self.layers):
            before = state.layers[index] if state else None
            x, after = layer(x, mask, memory, memory_mask, before)
            states.append(after)
        return self.norm(x), BackboneState(past + x.shape[1], tuple(states))

    def _check_memory(self, memory: Tensor | None, state: BackboneState | None) -> None:
        if self.reads_memory and memory is None and state is None:
            raise ValueError(
                "`memory` must be a tensor [B, S, D] for the first piece of a sequence, but is "
                "None. Pass what the encoder returned."
            )
        if memory is not None and not self.reads_memory:
            raise ValueError(
                "`memory` must be None, since this backbone was built without attention over a "
                "memory. Build it with memory=True."
            )


def reorder_state(state: BackboneState, rows: Tensor) -> BackboneState:
    """The state of the sequences ``rows`` ``[B']``, for beam search: a row may be taken twice."""
    layers = (
        LayerState(
            tuple(part.index_select(0, rows) for part in layer.mixer),
            tuple(part.index_select(0, rows) for part in layer.memory),
        )
        for layer in state.layers
    )
    return BackboneState(state.past, tuple(layers))
