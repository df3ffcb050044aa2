"""All sub-networks in one table: how good, how large, how fast, and how much memory each takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from rich import box
from rich.table import Table
from torch import Tensor, nn

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
    """By name, the one that counts first; empty where none was asked for."""
    parameters: int
    """Of the plain sub-network, see `embshare.models.dynabert.count_parameters`."""
    operations: int
    """Multiplications and additions of the layers for the batch that was measured."""
    latency_ms: float
    """Median of one forward of the batch."""
    latency_spread_ms: tuple[float, float]
    """Its first and third quartile."""
    weights_mib: float
    """Parameters and buffers of the plain sub-network in memory."""
    working_mib: float
    """The most that one forward of it took besides them."""


class SubNetworkReport(Record):
    """All rows, and what they were measured with."""

    rows: tuple[SubNetwork, ...]
    batch: dict[str, tuple[int, ...]]
    """Shapes of the inputs."""
    repeats: Annotated[int, Field(ge=1)]
    shared: bool
    """Whether the model that was timed derives its weights."""
    memory_source: str
    """How ``working_mib`` was found."""
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

    Latencies are taken in turns, one forward of each size after the other, so that whatever else
    the machine does falls on all alike. A shared model on a CPU keeps its weights from one forward
    to the next; elsewhere it does inside of `embshare.cached`. Memory is that of the extracted
    sub-network.

    Args:
        model: plain or shared; it is put into evaluation mode meanwhile.
        batch: inputs of its forward, ``[B, T]``, with ``input_ids``.
        evaluate: metrics of the model as it is; None measures only.
        sizes: None is all twelve.
        repeats: forwards of each size that are timed, after one that is not.
    Raises:
        InvalidValueError: a size does not fit the model, or ``repeats`` is below 1.
    """
    if repeats < 1:
        fault = f"`repeats` must be at least 1, but is {repeats}"
        raise InvalidValueError(what="the measurement", faults=[fault])
    provenance = read_provenance()
    wanted = tuple(sub_networks() if sizes is None else sizes)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            metrics = evaluate_sizes(model, wanted, evaluate) if evaluate else ({},) * len(wanted)
            times = _latencies(model, batch, wanted, repeats)
            memory = [_memory(model, batch, size) for size in wanted]
    finally:
        model.train(training)
    rows = tuple(
        _row(model, batch, size, found, spent, used)
        for size, found, spent, used in zip(wanted, metrics, times, memory, strict=True)
    )
    return SubNetworkReport(
        rows=rows,
        batch={name: tuple(tensor.shape) for name, tensor in batch.items()},
        repeats=repeats,
        shared=bank_of(model) is not None,
        memory_source=memory[0][2],
        provenance=provenance,
    )


Memory = tuple[float, float, str]


def _row(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    size: Size,
    metrics: dict[str, float],
    times: list[float],
    memory: Memory,
) -> SubNetwork:
    count, positions = batch["input_ids"].shape
    shares = {"width": size.width, "depth": size.depth}
    low, middle, high = _quartiles(times)
    return SubNetwork(
        **shares,
        metrics=metrics,
        parameters=count_parameters(model, **shares, rounding=size.rounding),
        operations=count
        * count_operations(model, positions=positions, **shares, rounding=size.rounding),
        latency_ms=middle,
        latency_spread_ms=(low, high),
        weights_mib=memory[0],
        working_mib=memory[1],
    )


def _quartiles(times: list[float]) -> tuple[float, float, float]:
    if len(times) == 1:
        return times[0], times[0], times[0]
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return low, middle, high


def _latencies(
    model: nn.Module, batch: Mapping[str, Tensor], sizes: Sequence[Size], repeats: int
) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in sizes]
    for turn in range(repeats + 1):
        for found, size in zip(times, sizes, strict=True):
            with sized(model, width=size.width, depth=size.depth, rounding=size.rounding):
                begun = _now()
                model(**batch)
                spent = (_now() - begun) * 1e3
            if turn:  # the first is a warm-up
                found.append(spent)
    return times


def _memory(model: nn.Module, batch: Mapping[str, Tensor], size: Size) -> Memory:
    """MiB of the extracted model's tensors, MiB that a forward adds, and how that was found."""
    small = extract(model, width=size.width, depth=size.depth, rounding=size.rounding)
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
    names = list(report.rows[0].metrics) if report.rows else []
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, caption=_caption(report))
    headings = (
        "depth",
        "width",
        *names,
        "parameters",
        "GFLOP",
        "ms",
        "weights\nMiB",
        "working\nMiB",
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    before = None
    for row in report.rows:
        if before not in (None, row.depth):
            table.add_section()
        before = row.depth
        table.add_row(*_cells(row, names))
    return table


def _caption(report: SubNetworkReport) -> str:
    shape = " x ".join(map(str, report.batch["input_ids"]))
    kind = "derives its weights" if report.shared else "plain"
    return (
        f"{shape} tokens on {report.provenance.device}, {report.provenance.threads} threads, "
        f"medians of {report.repeats}; the model that was timed: {kind}"
    )


def _cells(row: SubNetwork, names: Sequence[str]) -> tuple[str, ...]:
    return (
        f"{row.depth:g}",
        f"{row.width:g}",
        *(f"{row.metrics[name]:.4g}" for name in names),
        f"{row.parameters:,}",
        f"{row.operations / 1e9:.4g}",
        f"{row.latency_ms:.4g}",
        f"{row.weights_mib:,.1f}",
        f"{row.working_mib:,.1f}",
    )
