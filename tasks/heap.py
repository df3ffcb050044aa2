"""Keep freed memory in the process, where the C library would return it at once."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD: Final = -1  # as in glibc's malloc.h
M_MMAP_MAX: Final = -4
NEVER: Final = -1


def keep_freed_memory() -> bool:
    """Let tensors on the CPU reuse the memory of those before them.

    The GNU C library maps each large block anew and unmaps it when it is freed, so that the kernel
    clears every page of every activation, in every step. Training asks for the same sizes again
    and again; afterwards its blocks come from freed memory. Results are the same, and so is peak
    memory, but for fragmentation. The process keeps its memory until it ends: so commands and
    workers call this, and an import does not.

    Returns:
        Whether anything was changed; false on systems with another C library.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    return bool(set_option(M_MMAP_MAX, 0)) and bool(set_option(M_TRIM_THRESHOLD, NEVER))
