"""Timing keeps every sample, under a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat

import pytest

from edge_bench.core.timings import Measurement
from edge_bench.statistics.stats import percentile_ms
from edge_bench.timing.measure import images_per_second, measure, settled

MS = 1_000_000


class Stopwatch:
    """A clock that moves only while `call` runs, by the next of the durations."""

    def __init__(self, durations_ns: Iterator[int]) -> None:
        self._durations_ns = durations_ns
        self._now_ns = 5
        self.calls = 0

    def call(self) -> None:
        self._now_ns += next(self._durations_ns)
        self.calls += 1

    def clock(self) -> int:
        return self._now_ns


def timed(
    durations_ns: Iterator[int], *, warmup_runs: int, min_runs: int, min_seconds: float
) -> Measurement:
    watch = Stopwatch(durations_ns)
    return measure(
        watch.call,
        batch_size=1,
        warmup_runs=warmup_runs,
        min_runs=min_runs,
        min_seconds=min_seconds,
        clock=watch.clock,
    )


@pytest.fixture
def make_measurement() -> Callable[..., Measurement]:
    def make(latency_ns: tuple[int, ...], batch_size: int = 1) -> Measurement:
        return Measurement(batch_size=batch_size, warmup_runs=0, first_ns=1, latency_ns=latency_ns)

    return make


def test_the_first_call_is_kept_apart() -> None:
    result = timed(iter([900, 1, 2, 3]), warmup_runs=0, min_runs=3, min_seconds=0)
    assert (result.first_ns, result.latency_ns) == (900, (1, 2, 3))


def test_the_warm_up_is_dropped() -> None:
    result = timed(iter([900, 80, 70, 1, 2]), warmup_runs=2, min_runs=2, min_seconds=0)
    assert result.latency_ns == (1, 2)
    assert result.warmup_runs == 2


def test_timing_goes_on_until_the_least_runs_are_reached() -> None:
    result = timed(repeat(10**9), warmup_runs=0, min_runs=7, min_seconds=1.0)
    assert len(result.latency_ns) == 7


def test_timing_goes_on_until_the_least_time_is_reached() -> None:
    result = timed(repeat(10 * MS), warmup_runs=0, min_runs=3, min_seconds=1.0)
    assert len(result.latency_ns) == 100


def test_the_warm_up_does_not_count_into_the_least_time() -> None:
    durations = chain([5 * 10**9, 5 * 10**9], repeat(10 * MS))
    result = timed(durations, warmup_runs=1, min_runs=1, min_seconds=0.5)
    assert len(result.latency_ns) == 50


def warmed_up(durations_ms: Iterator[int], *, runs: int = 0, seconds: float = 5.0) -> Measurement:
    watch = Stopwatch(MS * duration for duration in durations_ms)
    return measure(
        watch.call,
        batch_size=1,
        warmup_runs=runs,
        min_runs=1,
        min_seconds=0,
        settle_seconds=seconds,
        clock=watch.clock,
    )


def test_the_warm_up_goes_on_until_three_windows_agree() -> None:
    # After the first call: two slow windows of 5 calls, then the pace that stays.
    result = warmed_up(chain([900], repeat(40, 5), repeat(20, 5), repeat(10)))
    assert (result.warmup_runs, result.settled) == (25, True)
    assert result.latency_ns == (10 * MS,)


@pytest.mark.parametrize(
    ("medians", "told"),
    [
        ([100, 100], None),
        # Up to 5% of the last one, whichever of the two before it lies farther away.
        ([95, 100, 100], True),
        ([105, 95, 100], True),
        ([106, 100, 100], False),
        ([100, 94, 100], False),
        ([500, 100, 100, 100], True),
    ],
)
def test_three_medians_have_settled_within_a_twentieth_of_the_last(
    medians: list[int], told: bool | None
) -> None:
    assert settled(medians) is told


def test_calls_that_are_asked_for_are_dropped_even_where_latency_settled_before() -> None:
    result = warmed_up(repeat(10), runs=40)
    assert (result.warmup_runs, result.settled) == (40, True)


def test_a_latency_that_never_settles_ends_the_warm_up_by_its_time() -> None:
    result = warmed_up(chain([1], *(repeat(10 * n, 5) for n in range(1, 200))), seconds=2.0)
    assert result.settled is False
    # Windows of 50, 100, 150 ms ... last 2 s after the eighth.
    assert 40 <= result.warmup_runs <= 45


def test_a_warm_up_of_too_few_calls_does_not_claim_to_know() -> None:
    result = warmed_up(repeat(900), seconds=2.0)
    assert (result.warmup_runs, result.settled) == (3, None)


def test_without_time_to_settle_the_warm_up_is_what_was_asked_for() -> None:
    result = warmed_up(chain([1], repeat(40, 5), repeat(10)), runs=3, seconds=0)
    assert (result.warmup_runs, result.settled) == (3, None)


def test_a_first_call_that_was_timed_before_is_not_made_again() -> None:
    watch = Stopwatch(repeat(7))
    result = measure(
        watch.call,
        batch_size=1,
        warmup_runs=0,
        min_runs=2,
        min_seconds=0,
        first_ns=99,
        clock=watch.clock,
    )
    assert (result.first_ns, watch.calls) == (99, 2)


def test_an_outlier_is_kept() -> None:
    durations = [MS] * 20 + [500 * MS] + [MS] * 20
    result = timed(iter([1, *durations]), warmup_runs=0, min_runs=41, min_seconds=0)
    assert result.latency_ns == tuple(durations)


def test_the_batch_size_is_noted() -> None:
    watch = Stopwatch(repeat(1))
    result = measure(
        watch.call, batch_size=16, warmup_runs=3, min_runs=4, min_seconds=0, clock=watch.clock
    )
    assert result.batch_size == 16
    assert watch.calls == 1 + 3 + 4


def test_the_real_clock_counts_nanoseconds_that_pass() -> None:
    result = measure(
        lambda: sum(range(1000)), batch_size=1, warmup_runs=0, min_runs=5, min_seconds=0
    )
    assert min(result.latency_ns) > 0


@pytest.mark.parametrize(
    # 10 samples; the least one that at least p of them do not exceed, by hand.
    ("percentile", "expected_ms"),
    [(0.5, 6), (0.9, 10), (0.95, 10), (0.1, 2)],
)
def test_a_percentile_is_the_nearest_sample_above(
    make_measurement: Callable[..., Measurement], percentile: float, expected_ms: float
) -> None:
    shuffled = (3, 1, 7, 10, 2, 9, 4, 8, 5, 6)
    measurement = make_measurement(tuple(ms * MS for ms in shuffled))
    assert percentile_ms(measurement, percentile) == expected_ms


@pytest.mark.parametrize("percentile", [0.5, 0.9, 0.95, 0.99])
def test_a_percentile_is_a_sample_that_was_seen(
    make_measurement: Callable[..., Measurement], percentile: float
) -> None:
    samples = tuple(1000 + 37 * i * i for i in range(83))
    assert percentile_ms(make_measurement(samples), percentile) * 1e6 in [
        pytest.approx(ns) for ns in samples
    ]


def test_a_percentile_is_in_milliseconds(make_measurement: Callable[..., Measurement]) -> None:
    assert percentile_ms(make_measurement((2_500_000,)), 0.5) == 2.5


def test_throughput_counts_every_image_of_every_call(
    make_measurement: Callable[..., Measurement],
) -> None:
    # 3 calls of 8 images in 100 + 100 + 300 ms: 24 images in half a second.
    measurement = make_measurement((100 * MS, 100 * MS, 300 * MS), batch_size=8)
    assert images_per_second(measurement) == 48
