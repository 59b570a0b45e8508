"""How busy the rest of the machine is while something is timed."""

from __future__ import annotations

from time import perf_counter, process_time
from types import TracebackType

import psutil

SHORTEST_S = 0.2
"""The kernel counts CPU time in steps of about 10 ms; of less than this, its sum says nothing."""
IDLE = ("idle", "iowait")
COUNTED_TWICE = ("guest", "guest_nice")
"""Linux counts the time of a guest in `user` and `nice`, too."""


class Background:
    """Counts the CPU time of everything but this process: while its context is open, or so far."""

    cores: float | None = None
    """Mean number of cores that others kept busy; None of a time too short to tell."""

    def begin(self) -> Background:
        """Count from now on."""
        self._begin = perf_counter()
        self._others = _others_s()
        return self

    def so_far(self) -> float | None:
        """Mean number of cores that others kept busy since; None of a time too short to tell."""
        span = perf_counter() - self._begin
        if span < SHORTEST_S or self._others is None or (now := _others_s()) is None:
            return None
        # Rounding of the two clocks may leave a little less than nothing.
        return round(max(0.0, now - self._others) / span, 3)

    def __enter__(self) -> Background:
        return self.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cores = self.so_far()


def _others_s() -> float | None:
    """CPU seconds of all cores but of this process; None where the system does not tell."""
    try:
        times = psutil.cpu_times()._asdict()
    except (OSError, RuntimeError):  # /proc that a container hides.
        return None
    busy = sum(s for name, s in times.items() if name not in IDLE + COUNTED_TWICE)
    return float(busy) - process_time()
