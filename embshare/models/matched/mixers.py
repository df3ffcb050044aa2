"""Mixers of the three architectures, which move information along the sequence.

All have one call: ``mixer(x, mask, state) -> (y, state)``, with

* ``x``, ``y`` ``[B, T, D]``;
* ``mask`` ``[B, T]``, true at real positions, or ``None`` where all are. Padding is on the
  right. A causal mixer needs no mask: nothing real comes after padding, so nothing real sees it;
* ``state`` a tuple of tensors with the batch in front, or ``None`` at the beginning of a sequence.
  A causal mixer returns what it must remember of ``x`` and of the state before, so a sequence may
  be read in pieces of any length. A mixer that sees both directions returns an empty tuple.
"""

# Axis letters: B batch, T positions, P positions before this call, D width, H heads.

from __future__ import annotations

from typing import Final, TypeAlias, final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from embshare.models.attending import attend
from embshare.models.matched.config import MatchedConfig
from embshare.models.matched.positions import rotate

__all__ = ["AttentionMixer", "ConvMixer", "LstmMixer", "State", "make_mixer", "split_heads"]

State: TypeAlias = tuple[Tensor, ...]
STATELESS: Final[State] = ()


def make_mixer(config: MatchedConfig, *, index: int, causal: bool) -> nn.Module:
    """The mixer of layer ``index``, which decides a convolution's dilation and nothing else."""
    match config.architecture:
        case "lstm":
            return LstmMixer(config.width, causal=causal)
        case "conv":
            dilation = config.dilations[index % len(config.dilations)]
            return ConvMixer(config.width, config.kernel_size, dilation, causal=causal)
        case "attention":
            return AttentionMixer(config.width, config.heads, causal=causal)


@final
class LstmMixer(nn.Module):
    """One recurrent layer; two of half the width, in opposite directions, where not causal."""

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.lstm = nn.LSTM(
            width, width if causal else width // 2, batch_first=True, bidirectional=not causal
        )

    def forward(
        self, x: Tensor, mask: Tensor | None = None, state: State | None = None
    ) -> tuple[Tensor, State]:
        if not self.causal:
            return self._both_directions(x, mask), STATELESS
        before = None if state is None else self._as_lstm_state(state)
        y, (hidden, cell) = self.lstm(x, before)
        return y, (hidden.transpose(0, 1), cell.transpose(0, 1))

    def _as_lstm_state(self, state: State) -> tuple[Tensor, Tensor]:
        """``nn.LSTM`` wants its layers in front, and contiguous; we keep the batch there."""
        hidden, cell = (part.transpose(0, 1).contiguous() for part in state)
        return hidden, cell

    def _both_directions(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            both: Tensor = self.lstm(x)[0]
            return both
        # A row without any real position still has to have a length; what it gives is unused.
        lengths = mask.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        padded, _ = pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=x.shape[1]
        )
        return padded


@final
class ConvMixer(nn.Module):
    """A convolution whose other half of outputs gates it (Dauphin et al. 2017)."""

    def __init__(self, width: int, kernel_size: int, dilation: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.reach = (kernel_size - 1) * dilation
        self.conv = nn.Conv1d(width, 2 * width, kernel_size, dilation=dilation)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, state: State | None = None
    ) -> tuple[Tensor, State]:
        if not self.causal:
            real = x if mask is None else x * mask.unsqueeze(-1)  # padding reads as the edge does
            side = self.reach // 2
            return self._gated(F.pad(real, (0, 0, side, side))), STATELESS
        context = x.new_zeros(x.shape[0], self.reach, x.shape[2]) if state is None else state[0]
        seen = torch.cat((context, x), dim=1)
        return self._gated(seen), (seen[:, seen.shape[1] - self.reach :],)

    def _gated(self, padded: Tensor) -> Tensor:
        """``[B, T + reach, D]`` to ``[B, T, D]``."""
        return F.glu(self.conv(padded.transpose(1, 2)), dim=1).transpose(1, 2)


@final
class AttentionMixer(nn.Module):
    """Self-attention with rotary positions, so that no position table is stored."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.causal, self.heads = causal, heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, state: State | None = None
    ) -> tuple[Tensor, State]:
        past = 0 if state is None else state[0].shape[2]
        query = rotate(split_heads(self.query(x), self.heads), start=past)
        key = rotate(split_heads(self.key(x), self.heads), start=past)
        value = split_heads(self.value(x), self.heads)
        if not self.causal:
            allowed = None if mask is None else mask[:, None, None, :].bool()
            return self._attend(query, key, value, allowed=allowed), STATELESS
        if state is not None:
            key = torch.cat((state[0], key), dim=2)
            value = torch.cat((state[1], value), dim=2)
        return self._attend_backwards(query, key, value, past=past), (key, value)

    def _attend_backwards(self, query: Tensor, key: Tensor, value: Tensor, *, past: int) -> Tensor:
        """Each position sees itself, what precedes it in this call, and the ``past`` ones."""
        if past == 0:
            return self._attend(query, key, value, is_causal=True)
        if query.shape[2] == 1:
            return self._attend(query, key, value)
        square = query.new_ones(query.shape[2], key.shape[2], dtype=torch.bool)
        return self._attend(query, key, value, allowed=square.tril(diagonal=past))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        allowed: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        heads = attend(query, key, value, mask=allowed, is_causal=is_causal)
        mixed: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return mixed


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``[B, T, D]`` to ``[B, H, T, D / H]``, a view."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)
