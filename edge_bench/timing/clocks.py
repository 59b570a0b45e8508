"""Is the clock of the timings fit for them?"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns

from edge_bench.core.errors import CapabilityError

LEAST_READS, MOST_READS = 1_000, 5_000_000
"""About half a second of readings, far above the 10 ms step of the coarsest clock."""


def check_clock(clock: Callable[[], int] = perf_counter_ns) -> None:
    """Read the clock until it has moved, and a thousand times at least.

    Raises:
        CapabilityError: it went back, or stands still; a timing would be wrong, or never end.
    """
    begin = last = clock()
    for reads in range(MOST_READS):
        now = clock()
        if now < last:
            raise _unfit(f"went back by {last - now} ns")
        last = now
        if reads >= LEAST_READS and last > begin:
            return
    raise _unfit("stands still")


def _unfit(what: str) -> CapabilityError:
    return CapabilityError(
        f"the monotonic clock of this machine {what}, so nothing can be timed by it; choose "
        "another in /sys/devices/system/clocksource, or restart the machine"
    )
