"""The benchmark: dense, EPS and VEPS models of three architectures on every task."""

from embshare.tasks.benchmark.config import BenchmarkConfig, Method
from embshare.tasks.benchmark.engine import run_benchmark
from embshare.tasks.benchmark.report import BenchmarkReport

__all__ = ["BenchmarkConfig", "BenchmarkReport", "Method", "run_benchmark"]
