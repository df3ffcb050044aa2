"""Small tasks of GLUE's kinds, made by a grammar: what any machine has.

Five of the nine: acceptability (cola), sentiment (sst2), paraphrase (mrpc), similarity (stsb) and
entailment (rte). A sentence of the development side never stands in the training side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from embshare.tasks.glue.acceptability import acceptability
from embshare.tasks.glue.entailment import entailment
from embshare.tasks.glue.events import paraphrase, similarity
from embshare.tasks.glue.reading import Data, Example
from embshare.tasks.glue.sentiment import sentiment
from embshare.tasks.glue.table import TASKS, GlueName
from embshare.tasks.text.portable_random import PortableRandom

__all__ = ["BUILT_IN", "built_in"]

Maker: TypeAlias = Callable[[PortableRandom], tuple[tuple[str, ...], float | int]]

BUILT_IN: Final[Mapping[GlueName, Maker]] = MappingProxyType(
    {
        "cola": acceptability,
        "sst2": sentiment,
        "mrpc": paraphrase,
        "stsb": similarity,
        "rte": entailment,
    }
)
"""What makes a row of each task: its sentences and its label."""
TRAIN: Final = 4_000
DEV: Final = 800
SEED: Final = 2024


def built_in(name: GlueName) -> Data:
    """The task's built-in data: 4,000 rows to learn from, 800 to be scored on, the same always."""
    rows = _distinct(BUILT_IN[name], PortableRandom(SEED))
    examples = [
        Example(str(index), texts, label)
        for index, (texts, label) in zip(range(TRAIN + DEV), rows, strict=False)
    ]
    part = TASKS[name].dev[0]
    return Data(
        name=f"built-in grammar of {name}",
        train=tuple(examples[:TRAIN]),
        dev={part: tuple(examples[TRAIN:])},
        test={},
    )


def _distinct(make: Maker, rng: PortableRandom) -> Iterator[tuple[tuple[str, ...], float | int]]:
    seen: set[tuple[str, ...]] = set()
    while True:
        texts, label = make(rng)
        if texts not in seen:
            seen.add(texts)
            yield texts, label
