"""What must not take long on large models: planning, sharing, and the start from trained weights.

    python benchmarks/large.py --out benchmarks/results/large.json
    python benchmarks/large.py --table benchmarks/results/large.json

Each case runs in a separate process. Seconds are of the case alone, not of building its input;
memory is what the process's resident memory grew by at its peak during the case.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from records import options, report
from torch import Tensor, nn

from embshare.tasks.measurement.memory import PeakMemory

Case = Callable[[], Callable[[], object]]
"""Builds the input, and gives back what is measured."""


def seven_billion(config: dict[str, Any]) -> Case:
    """Plan and share a decoder of the size of Llama 7B on the meta device."""

    def build() -> Callable[[], object]:
        from transformers import LlamaConfig, LlamaForCausalLM

        import embshare

        with torch.device("meta"):
            model: nn.Module = LlamaForCausalLM(LlamaConfig())
        return lambda: embshare.share_from_embedding(model, embshare.ShareConfig(**config))

    return build


def decomposition(rows: int, columns: int, rank: int, *, noise: float) -> Case:
    """The truncated SVD behind ``init="svd"``, of a matrix whose spectrum falls slowly."""

    def build() -> Callable[[], object]:
        from embshare.start.low_rank import joint_low_rank

        torch.manual_seed(0)
        falling = torch.linspace(1, 0.1, 2 * rank)
        matrix: Tensor = (torch.randn(rows, 2 * rank) * falling) @ torch.randn(2 * rank, columns)
        matrix += noise * torch.randn(rows, columns)
        return lambda: joint_low_rank(matrix, rank)

    return build


CASES: Final[dict[str, tuple[Case, str]]] = {
    "plan and share 7 billion parameters on meta": (seven_billion({}), "10 s, 2,048 MiB"),
    "the same, untied": (seven_billion({"tie": "none"}), "10 s, 2,048 MiB"),
    "the same, with a factor of 512": (seven_billion({"factor": 512}), "10 s, 2,048 MiB"),
    "SVD of 30522 x 3550 to rank 128": (decomposition(30522, 3550, 128, noise=0.1), "120 s"),
    "SVD of 30522 x 3550 to rank 768": (decomposition(30522, 3550, 768, noise=0.1), "120 s"),
}


def measure(name: str) -> dict[str, Any]:
    """One case, in this process."""
    run = CASES[name][0]()
    with PeakMemory() as memory:
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
    grown = memory.peak_mib - memory.before_mib
    return {"case": name, "seconds": round(seconds, 2), "grown_mib": round(grown, 1)}


def table(results: Sequence[dict[str, Any]]) -> str:
    """Seconds and memory in Markdown, against what is asked for."""
    lines = ["| case | seconds | memory at its peak | limit |", "| --- | ---: | ---: | ---: |"]
    for result in results:
        case, seconds, memory = result["case"], result["seconds"], result["grown_mib"]
        lines.append(f"| {case} | {seconds:.2g} | +{memory:,.0f} MiB | {CASES[case][1]} |")
    return "\n".join(lines)


def main() -> None:
    """Run every case and write one file."""
    report(options(__doc__).parse_args(), table, measured())


def measured() -> Iterator[dict[str, Any]]:
    """Every case, each in a separate process."""
    for name in CASES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            yield pool.apply(measure, (name,))


if __name__ == "__main__":
    main()
