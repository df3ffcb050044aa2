"""Encoded pairs as rows and batches, and the training loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from embshare.models.matched import MatchedSeq2Seq
from embshare.tasks.task import Batch

__all__ = ["IGNORED", "Collate", "PairRow", "PairRows", "SmoothedLoss", "pad_rows"]

IGNORED: Final = -100


PairRow: TypeAlias = dict[str, Tensor]
"""One sentence and its translation: ``source`` ``[S]`` and ``target`` ``[T]``, int64."""


@final
class _Side:
    """Rows of different lengths in one array: a list of lists would take ten times the memory."""

    def __init__(self, rows: Iterable[Sequence[int]]) -> None:
        parts = [np.asarray(row, dtype=np.int32) for row in rows]
        self.lengths: NDArray[np.int64] = np.asarray([len(p) for p in parts], dtype=np.int64)
        self._ends = self.lengths.cumsum()
        self._tokens = np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)

    def __getitem__(self, index: int) -> Tensor:
        end = self._ends[index]
        return torch.from_numpy(self._tokens[end - self.lengths[index] : end].astype(np.int64))


@final
class PairRows(Dataset[PairRow]):
    """Encoded pairs, without those with a sentence that is too long.

    Args:
        source: tokens of each sentence, with the end.
        target: tokens of each translation, with the end.
        longest: maximum number of tokens of a sentence; ``None`` keeps all.
    """

    def __init__(
        self,
        source: Iterable[Sequence[int]],
        target: Iterable[Sequence[int]],
        *,
        longest: int | None = None,
    ) -> None:
        self._source, self._target = _Side(source), _Side(target)
        both = np.maximum(self._source.lengths, self._target.lengths)
        self._kept = np.flatnonzero(both <= (both.max(initial=0) if longest is None else longest))
        self.lengths: list[int] = both[self._kept].tolist()
        """Length of the longer sentence of each row."""
        self.too_long = len(both) - len(self._kept)
        """Number of pairs that were left out."""

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> PairRow:
        place = int(self._kept[index])
        return {"source": self._source[place], "target": self._target[place]}

    @property
    def longest(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The longest sentence of each language: the number of its pair, from 1 and with those left
        out, and its tokens. There is at least one row."""
        sides = (self._source.lengths[self._kept], self._target.lengths[self._kept])
        first, second = ((int(self._kept[side.argmax()]) + 1, int(side.max())) for side in sides)
        return first, second

    @property
    def tokens(self) -> tuple[int, int]:
        """Numbers of tokens of all sources and of all targets."""
        sides = (self._source.lengths, self._target.lengths)
        first, second = (int(side[self._kept].sum()) for side in sides)
        return first, second


def pad_rows(rows: Sequence[Tensor], fill: int) -> Tensor:
    """Rows ``[T_i]`` as ``[B, T]``, filled on the right."""
    return pad_sequence(list(rows), batch_first=True, padding_value=fill)


@dataclass(frozen=True)
class Collate:
    """Rows to a batch: ``input_ids`` and ``attention_mask`` ``[B, S]``, ``labels`` ``[B, T]``."""

    pad: int

    def __call__(self, rows: Sequence[PairRow]) -> Batch:
        sources = [row["source"] for row in rows]
        return {
            "input_ids": pad_rows(sources, self.pad),
            "attention_mask": pad_rows([torch.ones_like(row) for row in sources], 0),
            "labels": pad_rows([row["target"] for row in rows], IGNORED),
        }


@dataclass(frozen=True)
class SmoothedLoss:
    """Cross-entropy with label smoothing.

    For training alone: evaluation uses the model's own loss, which is not smoothed.

    Source:
        Szegedy et al. 2016, section 7; for translation Vaswani et al. 2017, section 5.4.
    """

    smoothing: float

    def __call__(self, model: nn.Module, batch: Batch, left: int) -> Tensor:
        """Mean nats per token, as `embshare.tasks.task.Objective`."""
        labels = batch["labels"]
        given = {name: value for name, value in batch.items() if name != "labels"}
        given["decoder_input_ids"] = _before(model, labels)
        total = F.cross_entropy(
            model(**given)["logits"].flatten(0, 1).float(),
            labels.flatten(),
            ignore_index=IGNORED,
            label_smoothing=self.smoothing,
            reduction="sum",
        )
        return total / labels.ne(IGNORED).sum().clamp(min=1)


def _before(model: nn.Module, labels: Tensor) -> Tensor:
    """Inputs of the decoder. Without labels a model would not know them, and with labels it would
    compute an unused loss."""
    owner: Any = getattr(model, "module", model)  # several processes train a wrapped model
    if isinstance(owner, MatchedSeq2Seq):
        return owner.shift(labels)
    before: Tensor
    if (own := getattr(owner, "prepare_decoder_input_ids_from_labels", None)) is not None:
        before = own(labels.clone())  # some write into what they are given
        return before
    before = labels.roll(1, dims=1)
    before[:, 0] = owner.config.decoder_start_token_id
    return before.masked_fill(before.eq(IGNORED), owner.config.pad_token_id)
