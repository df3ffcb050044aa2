"""Rows of tokens as batches of a model, padded to the longest of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from embshare.caching import cached
from embshare.tasks.batching import RowBatches
from embshare.tasks.task import Batch, Feed

__all__ = ["Pad", "Rows", "make_feed", "outputs"]

Row = Mapping[str, Any]
"""Names of a model's inputs -> a list of integers, or one number."""


@final
class Rows(Dataset[Row]):
    """Rows in memory."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self._rows[index]


@final
@dataclass(frozen=True)
class Pad:
    """Collates rows: lists ``[T]`` to ``[B, T]`` with a mask, numbers to ``[B]``."""

    token: int
    """The padding token."""

    def __call__(self, rows: Sequence[Row]) -> Batch:
        longest = max(len(row["input_ids"]) for row in rows)
        batch: Batch = {}
        for name, value in rows[0].items():
            if isinstance(value, list):
                filling = self.token if name == "input_ids" else 0
                filled = [row[name] + [filling] * (longest - len(row[name])) for row in rows]
                batch[name] = torch.tensor(filled)
            else:
                batch[name] = torch.tensor([row[name] for row in rows])
        real = [[1] * len(row["input_ids"]) for row in rows]
        batch["attention_mask"] = torch.tensor([r + [0] * (longest - len(r)) for r in real])
        return batch


def make_feed(rows: Sequence[Row], pad: int, *, batch_size: int, processes: int) -> Feed:
    """Rows to train on, in batches of similar length."""
    lengths = [len(row["input_ids"]) for row in rows]

    def batches(seed: int) -> RowBatches:
        return RowBatches(lengths, rows=batch_size, seed=seed, processes=processes)

    return Feed(rows=Rows(rows), collate=Pad(pad), batches=batches)


@torch.inference_mode()
def outputs(
    model: nn.Module,
    rows: Sequence[Row],
    pad: int,
    *,
    batch_size: int,
    each: Callable[[Any], Sequence[Tensor]],
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """Outputs of a model for each row, from the shortest to the longest.

    Derived weights are computed once for all of them.

    Args:
        model: model on any device; left in evaluation mode.
        rows: inputs without labels.
        pad: the padding token.
        batch_size: number of rows in a batch.
        each: from what the model returns to tensors ``[B, ...]``.
    Yields:
        The number of a row, and its parts of these tensors, on the CPU.
    """
    model.eval()
    device, collate = next(model.parameters()).device, Pad(pad)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
    with cached(model):
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            batch = {name: t.to(device) for name, t in collate([rows[i] for i in chosen]).items()}
            found = [tensor.float().cpu() for tensor in each(model(**batch))]
            for place, index in enumerate(chosen):
                yield index, tuple(tensor[place] for tensor in found)
