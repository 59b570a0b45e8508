"""Latency: raw samples in, percentiles out; nothing is clipped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter_ns

import numpy as np

from edge_bench.spec import Measurement


def measure(
    call: Callable[[], object],
    *,
    batch_size: int,
    warmup_runs: int,
    min_runs: int,
    min_seconds: float,
    clock: Callable[[], int] = perf_counter_ns,
    timed: AbstractContextManager[None] | None = None,
) -> Measurement:
    """Time `call` until both `min_runs` and `min_seconds` are reached, after the warm-up.

    The first call of all (lazy allocation, kernel selection) is reported apart. The context
    `timed` is around the calls that are timed, and around nothing else.
    """
    start = clock()
    call()
    first_ns = clock() - start
    for _ in range(warmup_runs):
        call()
    samples: list[int] = []
    with timed or nullcontext():
        begin = clock()
        while len(samples) < min_runs or clock() - begin < min_seconds * 1e9:
            start = clock()
            call()
            samples.append(clock() - start)
    return Measurement(
        batch_size=batch_size,
        warmup_runs=warmup_runs,
        first_ns=first_ns,
        latency_ns=tuple(samples),
    )


def percentile_ms(measurement: Measurement, percentile: float) -> float:
    """Percentile in (0, 1) of the latency of one call, in milliseconds.

    The nearest-rank sample above (numpy's `higher`): a latency that was really seen.
    """
    return float(np.quantile(measurement.latency_ns, percentile, method="higher")) / 1e6


def images_per_second(measurement: Measurement) -> float:
    """Throughput over the whole measurement: all images over the sum of all calls."""
    total_ns = sum(measurement.latency_ns)
    return measurement.batch_size * len(measurement.latency_ns) * 1e9 / total_ns
