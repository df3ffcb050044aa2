"""The embedding tables of a study's models, before and after training, and what became of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

import embshare
from embshare.errors import EmbshareError
from embshare.plan.inventory import find_table, take_inventory
from embshare.plan.layer_rules import RULES
from embshare.runtime.bank import bank_of
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.folder import RunFolder
from embshare.tasks.runs.loading import load_run
from embshare.tasks.studies.reporting.analysis import Analysis
from embshare.tasks.studies.reporting.formatting import shown
from embshare.tasks.studies.reporting.geometry import (
    isotropy,
    mean_cosine,
    neighbours_kept,
    norms_against_frequency,
)
from embshare.tasks.studies.reporting.sheets import Cell, Sheet
from embshare.tasks.task import Processor

__all__ = ["Tables", "geometry_sheet", "read_tables", "table_of", "token_counts"]

MODELS: Final = 24
"""Rows whose models are loaded: of more, baselines, the front and the best others."""
FREQUENT: Final = 1000  # tokens whose neighbours are compared
COUNTED: Final = 2048  # rows of the training set in which tokens are counted
BATCH: Final = 32


@dataclass(frozen=True, kw_only=True)
class Tables:
    """One model's table, ``[V, D]`` on the CPU, as it is stored."""

    before: Tensor
    """As the run began: the model built anew with its seed."""
    after: Tensor
    counts: Tensor | None
    """``[V]``: how often each token is in the training set's first rows; ``None`` if unknown."""

    @property
    def frequency(self) -> Tensor:
        """Numbers that rise with how frequent a token is; by its index where nobody counted."""
        return -torch.arange(len(self.after)) if self.counts is None else self.counts


def table_of(model: nn.Module) -> Tensor:
    """The table that a shared model reads, or that a dense model would be shared from.

    Raises:
        NoSourceError: it has no embedding.
    """
    bank = bank_of(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if bank is not None:
        name = bank.plan.sources[0].name
    else:
        name = find_table(model, take_inventory(model, RULES), "auto")
    return parameters[name].detach().cpu().flatten(1)


def read_tables(run: Path, counted: dict[str, Tensor | None]) -> Tables:
    """Load the model of a finished run, and build it again as it began.

    Args:
        run: Folder of the run.
        counted: Counts of tokens by the settings that they depend on; what is not there is added.
    Raises:
        EmbshareError: the folder holds no run, or no model.
    """
    found = load_run(run)
    after = table_of(found.model)
    config = found.config
    fresh = found.processor.build(config.model, config.seed)
    if config.share is not None:
        start = torch.Generator().manual_seed(config.seed)
        fresh = embshare.share_from_embedding(fresh, config.share, generator=start)
    key = config.settings.model_dump_json(exclude={"training"}) + config.task + str(len(after))
    if key not in counted:
        counted[key] = _counts(config, found.processor, len(after))
    return Tables(before=table_of(fresh), after=after, counts=counted[key])


def _counts(config: RunConfig, processor: Processor, size: int) -> Tensor | None:
    try:
        feed = config.to_task().prepare(processor, train=True).feed()
    except (EmbshareError, OSError):  # the data are elsewhere
        return None
    rows: Any = feed.rows
    if not hasattr(rows, "__len__"):  # it streams
        return None
    return token_counts(_batches(rows, feed.collate or default_collate), size)


def _batches(rows: Any, collate: Any) -> Iterator[Mapping[str, Tensor]]:
    for begin in range(0, min(len(rows), COUNTED), BATCH):
        yield collate([rows[index] for index in range(begin, min(begin + BATCH, len(rows)))])


def token_counts(batches: Iterable[Mapping[str, Tensor]], size: int) -> Tensor | None:
    """Count tokens in batches: the labels' where labels are tokens, else the inputs'.

    Args:
        batches: Arguments of a model's forward.
        size: Number of tokens, ``V``.
    Returns:
        ``[V]``; ``None`` where there are no batches, or no tokens of that vocabulary in them.
    """
    counts = torch.zeros(size, dtype=torch.long)
    for batch in batches:
        tokens = batch.get("labels")
        if tokens is None or tokens.dim() < 2 or tokens.is_floating_point():
            tokens = batch.get("input_ids")
            if tokens is None:
                return None
            if (mask := batch.get("attention_mask")) is not None:
                tokens = tokens[mask.bool()]
        tokens = tokens[tokens >= 0]
        if tokens.numel() and int(tokens.max()) >= size:
            return None
        counts += torch.bincount(tokens.flatten(), minlength=size)
    return counts if int(counts.sum()) else None


def geometry_sheet(analysis: Analysis, folders: Mapping[str, Path]) -> Sheet | None:
    """Measure the tables of a task's models, of the first seed of each row.

    Args:
        analysis: The task.
        folders: Name of a trial -> folder of its run.
    Returns:
        ``None`` where no folder holds a model.
    """
    chosen = analysis.chosen(MODELS)
    tables: dict[int, Tables] = {}
    counted: dict[str, Tensor | None] = {}
    for index in chosen:
        folder = folders.get(analysis.rows[index].trials[0].name)
        if folder is not None and RunFolder(folder).model.is_dir():
            tables[index] = read_tables(folder, counted)
    if not tables:
        return None
    places = {id(row): n for n, row in enumerate(analysis.rows)}
    rows = []
    for index, found in tables.items():
        base = analysis.baselines[index]
        other = None if base is None else tables.get(places[id(base)])
        labels = analysis.rows[index].labels.values()
        rows.append((*(Cell(shown(label), label) for label in labels), *_measured(found, other)))
    axes = [axis.replace("_", " ") for axis in analysis.report.axes]
    head = ["isotropy before", "after", "mean cosine before", "after", "neighbours kept"]
    head += ["as the baseline's", "norm ~ frequency before", "after"]
    notes = [
        "Of the embedding table as it is stored, before training (built anew with the run's seed) "
        "and after, of the first seed. Isotropy is the partition-function measure of Mu and "
        "Viswanath (2018), 1 where rows point everywhere alike. Neighbours are the 10 rows of "
        f"largest cosine, of the {FREQUENT:,} most frequent tokens: the share that training kept, "
        "and that the baseline's trained table has too. The last columns are the rank correlation "
        "of the rows' norms with the frequency of their tokens.",
    ]
    if any(found.counts is None for found in tables.values()):
        notes.append(
            "Tokens could not be counted in every training set: there, a token's place in the "
            "vocabulary stands for its frequency."
        )
    if len(tables) < len(analysis.rows):
        notes.append(
            f"{len(tables)} of {len(analysis.rows)} rows: the baselines, the front and the best "
            "others whose folders hold a model."
        )
    return Sheet(
        title="Geometry of the table",
        head=(*axes, *head),
        words=len(axes),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _measured(found: Tables, other: Tables | None) -> Iterator[Cell]:
    for measure in (isotropy, mean_cosine):
        for table in (found.before, found.after):
            yield _cell(measure(table) if table.isfinite().all() else math.nan)
    frequent = found.frequency.argsort(descending=True, stable=True)[:FREQUENT]
    if found.counts is not None:
        frequent = frequent[found.counts[frequent] > 0]
    yield _cell(neighbours_kept(found.before, found.after, frequent))
    same = other is not None and len(other.after) == len(found.after)
    yield (
        _cell(neighbours_kept(other.after, found.after, frequent))
        if other is not None and same
        else Cell("", math.nan)
    )
    for table in (found.before, found.after):
        yield _cell(norms_against_frequency(table, found.frequency))


def _cell(value: float) -> Cell:
    return Cell(f"{value:.3f}", value)
