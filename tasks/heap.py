"""Freed memory stays with the process, where the C library would give it back at once."""

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
    clears every page of every activation, in every step. A training asks for the same sizes again
    and again; from now on its blocks come from what it has freed. Results are the same, and so, but
    for fragments, is the most memory that the process has at once. It keeps that until it ends: so
    commands and workers do this, and the library does not do it to whoever imports it.

    Returns:
        Whether anything was changed: not on systems with another C library.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    return bool(set_option(M_MMAP_MAX, 0)) and bool(set_option(M_TRIM_THRESHOLD, NEVER))
