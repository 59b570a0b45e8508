"""Whether torch's threads have the cores that they count on."""

from __future__ import annotations

import os

from ard.commands.started import busy_beside
from edge_bench.terminal.console import warn

THREADS = "OMP_NUM_THREADS"
SHARED = 0.5
"""Cores that a command's threads have to do without, on average, before people are told."""
SHARE = 1 / 8
"""The same as a part of its threads: there is always something else on a machine of many cores."""


def warn_of_shared_cores() -> None:
    """Say that other processes are in the way, unless whoever started this chose the threads.

    Threads of an operator wait for the last of them, actively: one that shares its core holds up
    all others, and what they spend on waiting is missing there, too.
    """
    import torch

    cores = os.cpu_count() or 1
    others = busy_beside()
    if THREADS in os.environ or others is None or _may_use() < cores:
        return
    found = doubt_about_cores(cores, torch.get_num_threads(), others)
    if found:
        warn(found)


def doubt_about_cores(cores: int, threads: int, others: float) -> str | None:
    """The sentence for so many threads, where others keep so many of the cores busy."""
    missing = threads + others - cores
    if threads == 1 or missing < max(SHARED, SHARE * threads):
        return None
    free = max(1, int(cores - others))
    return (
        f"other processes keep {others:.1f} of {cores} cores busy, and {threads} threads that wait "
        f"for one another may take several times as long; stop those, or set {THREADS}={free}"
    )


def _may_use() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
