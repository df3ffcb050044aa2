"""Measure the peak memory of this process since a given moment."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

import torch

__all__ = ["PeakMemory"]

CLEAR: Final = Path("/proc/self/clear_refs")
STATUS: Final = Path("/proc/self/status")
RESET_PEAK: Final = "5"  # see proc_pid_clear_refs(5)
SINCE_ENTERED: Final = "VmHWM, reset before training"
SINCE_STARTED: Final = "ru_maxrss of the process since it started: this system cannot reset it"


@final
class PeakMemory:
    """Context manager that measures peak memory.

    On Linux the kernel's peak is reset on entering. Elsewhere, and where that is not allowed, the
    peak is that since the process started, and `source` says so.
    """

    def __init__(self) -> None:
        self.before_mib = 0.0
        """Resident memory on entering."""
        self.peak_mib = 0.0
        """Peak between entering and leaving; see `source`."""
        self.source = SINCE_STARTED
        """Quantity that was measured, and since when."""
        self.device_peak_mib: float | None = None
        """Peak memory of tensors on this process's CUDA device; ``None`` without one."""

    def __enter__(self) -> Self:
        gc.collect()
        _return_free_pages()
        self.source = SINCE_ENTERED if _reset_peak() else SINCE_STARTED
        self.before_mib = _status_mib("VmRSS") or _lifelong_peak_mib()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        kernel = _status_mib("VmHWM") if self.source == SINCE_ENTERED else None
        self.peak_mib = _lifelong_peak_mib() if kernel is None else kernel
        if torch.cuda.is_available():
            self.device_peak_mib = torch.cuda.max_memory_allocated() / 2**20


def _return_free_pages() -> None:
    """Have glibc return memory of earlier models, which would hide that of the next one."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def _reset_peak() -> bool:
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return False
    return _status_mib("VmHWM") is not None


def _status_mib(field: str) -> float | None:
    """Read a field of the kernel's status of this process, which counts in KiB."""
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None


def _lifelong_peak_mib() -> float:
    """Peak since the process started; 0 on a system that does not record it."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024  # bytes there, KiB elsewhere
