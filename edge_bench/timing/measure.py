"""Latency: raw samples in, percentiles out; nothing is clipped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median_low
from time import perf_counter_ns

from edge_bench.core.timings import Measurement
from edge_bench.timing.background import Background

WINDOW, WINDOW_NS = 5, 10_000_000
"""A window of the warm-up: at least this many calls, and this long."""
SETTLED = 0.05
"""How far, as a fraction, the medians of two windows may lie from that of the next."""


def measure(
    call: Callable[[], object],
    *,
    batch_size: int,
    warmup_runs: int,
    min_runs: int,
    min_seconds: float,
    settle_seconds: float = 0.0,
    first_ns: int | None = None,
    clock: Callable[[], int] = perf_counter_ns,
    timed: AbstractContextManager[None] | None = None,
) -> Measurement:
    """Time `call` until both `min_runs` and `min_seconds` are reached, after the warm-up.

    The warm-up is `warmup_runs` calls, and more until latency has settled or the warm-up has taken
    `settle_seconds`; 0 takes `warmup_runs` alone. The first call of all (lazy allocation, kernel
    selection) is reported apart; give its `first_ns` where it was made before. The context `timed`
    is around the calls that are timed, and around nothing else.
    """
    if first_ns is None:
        start = clock()
        call()
        first_ns = clock() - start
    warmed, settled = _warm_up(call, warmup_runs, settle_seconds, clock)
    samples: list[int] = []
    with timed or nullcontext(), Background() as background:
        begin = clock()
        while len(samples) < min_runs or clock() - begin < min_seconds * 1e9:
            start = clock()
            call()
            samples.append(clock() - start)
    return Measurement(
        batch_size=batch_size,
        warmup_runs=warmed,
        first_ns=first_ns,
        latency_ns=tuple(samples),
        settled=settled,
        background_cores=background.cores,
    )


def _warm_up(
    call: Callable[[], object], runs: int, settle_seconds: float, clock: Callable[[], int]
) -> tuple[int, bool | None]:
    """(calls, whether latency settled); None where time was too short to tell, or not asked."""
    called = 0
    medians: list[int] = []
    window: list[int] = []
    begin = opened = clock()
    while True:
        agreed = settled(medians) if settle_seconds else None
        spent = clock() - begin >= settle_seconds * 1e9
        if called >= runs and (agreed or spent):
            return called, agreed
        start = clock()
        call()
        now = clock()
        called += 1
        window.append(now - start)
        if len(window) >= WINDOW and now - opened >= WINDOW_NS:
            medians.append(median_low(window))
            window, opened = [], now


def settled(medians: list[int]) -> bool | None:
    """Do the last three medians agree? None of fewer."""
    if len(medians) < 3:
        return None
    first, second, last = medians[-3:]
    return max(abs(first - last), abs(second - last)) <= SETTLED * last


def images_per_second(measurement: Measurement) -> float:
    """Throughput over the whole measurement: all images over the sum of all calls."""
    total_ns = sum(measurement.latency_ns)
    return measurement.batch_size * len(measurement.latency_ns) * 1e9 / total_ns
