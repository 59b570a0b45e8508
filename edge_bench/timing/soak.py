"""Hours of single-stream: does the device keep its pace when it is warm?"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np

from edge_bench.core.progress import ProgressCallback
from edge_bench.core.series import encode_series, series_array
from edge_bench.core.timings import Soak
from edge_bench.timing.background import Background

PARTS = 10
"""A soak is told in tenths, equal in time."""


def soak(
    call: Callable[[], object],
    minutes: float,
    timed: AbstractContextManager[None],
    report_progress: ProgressCallback,
    clock: Callable[[], int] = perf_counter_ns,
) -> Soak:
    """Call for `minutes`, one after another; the context `timed` is around it all."""
    samples = array("q")  # 8 bytes a call, for hours.
    wanted = int(minutes * 60e9)
    with timed, Background() as background:
        begin = now = clock()
        told = 0
        while now - begin < wanted or not samples:
            call()
            ended = clock()
            # The next begins where this one ended: nothing, progress included, goes untimed.
            samples.append(ended - now)
            now = ended
            if (part := min(PARTS, PARTS * (now - begin) // max(wanted, 1))) > told:
                told = part
                report_progress(part, PARTS, f"soak: {samples[-1] / 1e6:.2f} ms")
    return Soak(
        minutes=minutes,
        latency_ns=encode_series(samples),
        background_cores=background.cores,
    )


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What became of the latency during a soak.

    Attributes:
        samples: calls.
        median_ms, p99_ms: of each tenth of the time, in order.
    """

    samples: int
    median_ms: tuple[float, ...]
    p99_ms: tuple[float, ...]

    @property
    def change(self) -> float:
        """Median of the last tenth over that of the first, minus 1."""
        # A nanosecond at least: a clock of long steps calls most calls 0.
        return self.median_ms[-1] / max(self.median_ms[0], 1e-6) - 1


def drift(result: Soak) -> Drift:
    """The tenths of a soak; fewer where there were fewer calls than tenths."""
    latency = series_array(result.latency_ns)
    ends = np.cumsum(latency)
    edges = np.searchsorted(ends, ends[-1] * np.arange(1, PARTS) / PARTS, side="right")
    parts = [part for part in np.split(latency, edges) if len(part)]
    return Drift(
        samples=len(latency),
        median_ms=tuple(float(np.median(part)) / 1e6 for part in parts),
        p99_ms=tuple(float(np.quantile(part, 0.99, method="higher")) / 1e6 for part in parts),
    )
