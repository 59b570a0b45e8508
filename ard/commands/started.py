"""When this command began, for what must end in a given time, and who else was busy since."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_bench.timing.background import Background

_begun: list[float] = []
_beside: list[Background] = []


def note_start() -> None:
    """Remember when the process began: Python and its imports are part of what people wait for."""
    import psutil

    from edge_bench.timing.background import Background

    age = time.time() - psutil.Process().create_time()
    _begun[:] = [time.perf_counter() - max(0.0, age)]
    _beside[:] = [Background().begin()]


def begun() -> float:
    """`time.perf_counter()` when the command began; now where it runs within another program."""
    return _begun[0] if _begun else time.perf_counter()


def busy_beside() -> float | None:
    """Mean number of cores that other processes kept busy since the command began.

    None where it runs within another program, or began only just now.
    """
    return _beside[0].so_far() if _beside else None
