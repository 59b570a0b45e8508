"""How the C library deals with memory that was freed."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

# Parameters of mallopt, of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


@cache
def keep_freed_memory() -> bool:
    """Have this process keep what it frees for what it allocates next; whether that could be done.

    glibc maps large blocks anew and gives freed ones back to the system, so that every step of a
    training or an attack on the CPU has its activations' pages faulted in and cleared again. Only
    where and when memory is taken changes, never what is computed. Elsewhere than on glibc nothing
    is done.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # No mapping of its own for any block, and -1: never give the heap's end back.
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
