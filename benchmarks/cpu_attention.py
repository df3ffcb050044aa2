"""Half- against single-precision attention on a CPU, forward and backward, for several lengths.

    python benchmarks/cpu_attention.py --out benchmarks/results/cpu_attention.json

Interleaved; medians. `embshare.models.attending.SHORT` rests on it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812

from embshare._value import Value
from embshare.tasks.measurement.provenance import Provenance, read_provenance

SIZES = (
    (71, 4, 21, 32),
    (32, 4, 64, 32),
    (16, 12, 128, 64),
    (8, 12, 256, 64),
    (4, 12, 512, 64),
    (2, 12, 1024, 64),
)
"""Rows, heads, positions, width of a head."""


class Timing(Value):
    """One size."""

    rows: int
    heads: int
    positions: int
    head_width: int
    float32_ms: float
    bfloat16_ms: float
    ratio: float
    """Ratio of bfloat16's time to float32's."""


class Report(Value):
    """All sizes, and the machine."""

    provenance: Provenance
    threads: int
    runs: int
    found: tuple[Timing, ...]


def measure(size: tuple[int, int, int, int], runs: int) -> Timing:
    """Medians of one size."""
    seen: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    rows, heads, positions, width = size
    mask = torch.ones(rows, 1, 1, positions, dtype=torch.bool)
    for run in range(runs + 1):
        for dtype, times in seen.items():
            inputs = torch.randn(3, rows, heads, positions, width, dtype=dtype, requires_grad=True)
            begun = time.perf_counter()
            query, key, value = inputs
            F.scaled_dot_product_attention(query, key, value, mask).sum().backward()
            if run:  # the first is for the caches
                times.append((time.perf_counter() - begun) * 1e3)
    single, half = (statistics.median(times) for times in seen.values())
    return Timing(
        rows=rows,
        heads=heads,
        positions=positions,
        head_width=width,
        float32_ms=single,
        bfloat16_ms=half,
        ratio=half / single,
    )


def main() -> None:
    """Read the arguments, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    provenance = read_provenance()
    torch.set_num_threads(given.threads)
    found = tuple(measure(size, given.runs) for size in SIZES)
    for line in found:
        print(
            f"{line.rows:4} x {line.heads:2} x {line.positions:4} x {line.head_width}: "
            f"{line.float32_ms:7.2f} ms, in bfloat16 {line.bfloat16_ms:7.2f} ms, {line.ratio:.2f}"
        )
    if given.out is not None:
        report = Report(provenance=provenance, threads=given.threads, runs=given.runs, found=found)
        given.out.write_text(report.to_json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
