"""When this command began, for what must end in a given time."""

from __future__ import annotations

import time

_begun: list[float] = []


def note_start() -> None:
    """Remember when the process began: Python and its imports are part of what people wait for."""
    import psutil

    age = time.time() - psutil.Process().create_time()
    _begun[:] = [time.perf_counter() - max(0.0, age)]


def begun() -> float:
    """`time.perf_counter()` when the command began; now where it runs within another program."""
    return _begun[0] if _begun else time.perf_counter()
