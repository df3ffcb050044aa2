"""Rows of tokens as batches of a model, padded to the longest of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final, final

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.utils.data import Dataset

from embshare.caching import cached
from embshare.tasks.batching import RowBatches
from embshare.tasks.cache import kept
from embshare.tasks.task import Batch, Feed

__all__ = ["Pad", "Rows", "kept_rows", "make_feed", "outputs"]

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


def kept_rows(
    about: Iterable[object], make: Callable[[], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Rows of integers, from the cache where it has them.

    Args:
        about: everything that the rows depend on, as for `embshare.tasks.cache.kept`.
        make: makes them; all have the same names.
    """
    return kept("rows", about, make, dump=_dumped, load=_loaded)


LENGTHS: Final = " lengths"


def _dumped(rows: Sequence[Row]) -> bytes:
    """Rows as one tensor for each name, numbered since a file of tensors has no order; lists are
    joined, and their lengths are beside them."""
    tensors: dict[str, Tensor] = {}
    for number, (name, value) in enumerate((rows[0] if rows else {}).items()):
        column, key = [row[name] for row in rows], f"{number} {name}"
        if isinstance(value, list):
            tensors[key + LENGTHS] = torch.tensor([len(each) for each in column])
            column = list(chain.from_iterable(column))
        tensors[key] = torch.tensor(column, dtype=torch.int32)
    return save(tensors)


def _loaded(raw: bytes) -> list[dict[str, Any]]:
    tensors = load(raw)
    columns: dict[str, list[Any]] = {}
    for key in sorted(key for key in tensors if not key.endswith(LENGTHS)):
        column, lengths = tensors[key].tolist(), tensors.get(key + LENGTHS)
        if lengths is not None:
            values = iter(column)
            column = [list(islice(values, length)) for length in lengths.tolist()]
        columns[key.partition(" ")[2]] = column
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


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
