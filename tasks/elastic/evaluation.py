"""All sub-networks in one table: how good, how large, how fast, and how much memory each takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from rich.table import Table
from torch import Tensor, nn

from embshare._tables import new_table
from embshare._value import Record
from embshare.errors import InvalidValueError
from embshare.models.dynabert import (
    Size,
    count_operations,
    count_parameters,
    extract,
    sized,
    sub_networks,
)
from embshare.models.dynabert.sizes import evaluating
from embshare.runtime.bank import bank_of
from embshare.tasks.elastic.training import Evaluate, evaluate_sizes
from embshare.tasks.measurement.memory import PeakMemory
from embshare.tasks.measurement.provenance import Provenance, read_provenance

__all__ = ["SubNetwork", "SubNetworkReport", "make_table", "measure_sub_networks"]


class SubNetwork(Record):
    """One row: a sub-network, and what was measured of it."""

    width: float
    depth: float
    metrics: dict[str, float]
    """Metrics by name, the one that counts first; empty where none was asked for."""
    parameters: int
    """Parameters of the plain sub-network, see `embshare.models.dynabert.count_parameters`."""
    operations: int
    """Multiplications and additions of the layers for the batch that was measured."""
    latency_ms: float
    """Median of one forward pass of the batch."""
    latency_spread_ms: tuple[float, float]
    """First and third quartile of the latency."""
    weights_mib: float
    """Memory of the plain sub-network's parameters and buffers."""
    working_mib: float
    """Peak memory of one forward pass of it, besides them."""


class SubNetworkReport(Record):
    """All rows, and what they were measured with."""

    rows: tuple[SubNetwork, ...]
    batch: dict[str, tuple[int, ...]]
    """Shapes of the inputs."""
    repeats: Annotated[int, Field(ge=1)]
    shared: bool
    """Whether the model that was timed derives its weights."""
    memory_source: str
    """Measure of ``working_mib``."""
    provenance: Provenance

    @property
    def total(self) -> float:
        """The sum of first metrics, by which DynaBERT chooses."""
        return sum(next(iter(row.metrics.values()), 0.0) for row in self.rows)


def measure_sub_networks(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    evaluate: Evaluate | None = None,
    sizes: Sequence[Size] | None = None,
    repeats: int = 20,
) -> SubNetworkReport:
    """Evaluate and measure every sub-network of a model.

    Latencies are taken in turns, one forward pass of each size after the other, so that whatever
    else the machine does falls on all alike. A shared model on a CPU keeps its weights from one
    pass to the next; elsewhere it does inside of `embshare.cached`. Memory is that of the extracted
    sub-network.

    Args:
        model: plain or shared; it is put into evaluation mode meanwhile.
        batch: inputs of its forward, ``[B, T]``, with ``input_ids``.
        evaluate: metrics of the model as it is; None measures only.
        sizes: None is all twelve.
        repeats: forward passes of each size that are timed, after one that is not.
    Raises:
        InvalidValueError: a size does not fit the model, or ``repeats`` is below 1.
    """
    if repeats < 1:
        fault = f"`repeats` must be at least 1, but is {repeats}"
        raise InvalidValueError(what="the measurement", faults=[fault])
    provenance = read_provenance()
    wanted = tuple(sub_networks() if sizes is None else sizes)
    metrics = evaluate_sizes(model, wanted, evaluate) if evaluate else ({},) * len(wanted)
    with evaluating(model), torch.no_grad():
        times = _latencies(model, batch, wanted, repeats)
        memory = [_memory(model, batch, size) for size in wanted]
    count, positions = batch["input_ids"].shape
    rows = []
    for size, found, spent, (weights, working, _) in zip(
        wanted, metrics, times, memory, strict=True
    ):
        low, middle, high = np.percentile(spent, (25, 50, 75)).tolist()
        row = SubNetwork(
            width=size.width,
            depth=size.depth,
            metrics=found,
            parameters=count_parameters(model, **dict(size)),
            operations=count * count_operations(model, positions=positions, **dict(size)),
            latency_ms=middle,
            latency_spread_ms=(low, high),
            weights_mib=weights,
            working_mib=working,
        )
        rows.append(row)
    return SubNetworkReport(
        rows=tuple(rows),
        batch={name: tuple(tensor.shape) for name, tensor in batch.items()},
        repeats=repeats,
        shared=bank_of(model) is not None,
        memory_source=memory[0][2],
        provenance=provenance,
    )


def _latencies(
    model: nn.Module, batch: Mapping[str, Tensor], sizes: Sequence[Size], repeats: int
) -> list[list[float]]:
    """Milliseconds of each pass of each size."""
    times: list[list[float]] = [[] for _ in sizes]
    for turn in range(repeats + 1):
        for found, size in zip(times, sizes, strict=True):
            with sized(model, **dict(size)):
                begun = _now()
                model(**batch)
                spent = (_now() - begun) * 1e3
            if turn:  # the first is a warm-up
                found.append(spent)
    return times


def _memory(model: nn.Module, batch: Mapping[str, Tensor], size: Size) -> tuple[float, float, str]:
    """MiB of the extracted model's tensors, MiB that a pass adds, and how that was found."""
    small = extract(model, **dict(size))
    held = {tensor.data_ptr(): tensor.nbytes for tensor in (*small.parameters(), *small.buffers())}
    weights = sum(held.values()) / 2**20
    if next(small.parameters()).is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        small(**batch)
        return weights, (torch.cuda.max_memory_allocated() - before) / 2**20, "CUDA's allocator"
    small(**batch)  # what a first call alone allocates is not counted
    with PeakMemory() as peak:
        small(**batch)
    return weights, max(0.0, peak.peak_mib - peak.before_mib), peak.source


def _now() -> float:
    """Seconds on a steady clock, once all that was started on a device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def make_table(report: SubNetworkReport) -> Table:
    """The report for a terminal."""
    shape = " x ".join(map(str, report.batch["input_ids"]))
    kind = "derives its weights" if report.shared else "plain"
    caption = (
        f"{shape} tokens on {report.provenance.device}, {report.provenance.threads} threads, "
        f"medians of {report.repeats}; the model that was timed: {kind}"
    )
    names = list(report.rows[0].metrics) if report.rows else []
    sizes = ("parameters", "GFLOP", "ms", "weights\nMiB", "working\nMiB")
    headings = ("depth", "width", *names, *sizes)
    table = new_table(*headings, caption=caption, right=range(len(headings)))
    before = None
    for row in report.rows:
        if before not in (None, row.depth):
            table.add_section()
        before = row.depth
        table.add_row(
            f"{row.depth:g}",
            f"{row.width:g}",
            *(f"{row.metrics[name]:.4g}" for name in names),
            f"{row.parameters:,}",
            f"{row.operations / 1e9:.4g}",
            f"{row.latency_ms:.4g}",
            f"{row.weights_mib:,.1f}",
            f"{row.working_mib:,.1f}",
        )
    return table
