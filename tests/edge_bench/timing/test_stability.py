"""A timing that cannot be trusted says so, why, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from edge_bench.core.series import EVENTS, Phase, Samples, Series, Telemetry, encode_series
from edge_bench.core.spec import Report
from edge_bench.core.timings import Soak
from edge_bench.timing.stability import stabilities

MakeReport = Callable[..., Report]
RNG = np.random.default_rng(0)
STEADY = tuple(1 + 0.01 * RNG.normal(size=900))


def single_stream(report: Report) -> str:
    return str(stabilities(report)["single-stream"])


def test_steady_samples_are_stable(make_report: MakeReport) -> None:
    assert single_stream(make_report(latency_ms=STEADY)) == "stable"


@pytest.mark.parametrize(
    ("latency_ms", "words"),
    [
        (np.linspace(1, 1.2, 900) + 0.001 * RNG.normal(size=900), "changed by +13%"),
        (np.linspace(1.2, 1, 900) + 0.001 * RNG.normal(size=900), "changed by -11%"),
        (np.tile([1.0, 1.3], 450), "half of the calls lie 26% of the median apart"),
        (np.where(np.arange(900) % 50, 1.0, 4.0), "p99 is 4.0 times the median"),
    ],
)
def test_what_is_wrong_is_named(
    make_report: MakeReport, latency_ms: Sequence[float], words: str
) -> None:
    text = single_stream(make_report(latency_ms=latency_ms))
    assert text.startswith("unstable: ")
    assert words in text


@pytest.mark.parametrize(
    ("latency_ms", "words"),
    [
        # The middle half is 14% of the median wide, and may be 20%.
        (np.tile([1.0, 1.15], 450), "of the median apart"),
        (np.where(np.arange(900) % 50, 1.0, 1.4), "p99"),  # It may be 1.5 times the median.
        (np.where(np.arange(600) % 50, 1.0, 4.0), "p99"),  # Of too few calls for one.
        # A clock of long steps, by which most of the calls take time.
        (np.repeat([0.0, 1.0], [6, 9]), "stood still"),
    ],
)
def test_what_lies_within_the_limits_is_not_named(
    make_report: MakeReport, latency_ms: Sequence[float], words: str
) -> None:
    shuffled = np.random.default_rng(1).permutation(latency_ms)
    assert words not in single_stream(make_report(latency_ms=shuffled))


def test_one_outlier_in_many_is_no_instability(make_report: MakeReport) -> None:
    assert single_stream(make_report(latency_ms=(*STEADY, 50.0))) == "stable"


def test_noise_alone_is_no_drift(make_report: MakeReport) -> None:
    # Medians of noise this wide differ by more than the limit now and then, but not beyond chance.
    rng = np.random.default_rng(7)
    for _ in range(40):
        text = single_stream(make_report(latency_ms=np.exp(0.3 * rng.normal(size=18))))
        assert "while it was timed" not in text


def test_a_warm_up_that_never_settled_is_named(make_report: MakeReport) -> None:
    report = make_report(latency_ms=STEADY)
    unsettled = replace(report, latency=replace(report.latency, settled=False, warmup_runs=41))
    assert "had not settled after 41 calls" in single_stream(unsettled)


def test_too_few_samples_get_no_verdict(make_report: MakeReport) -> None:
    assert stabilities(make_report(latency_ms=[1.0] * 14)) == {}
    assert single_stream(make_report(latency_ms=[1.0] * 15)) == "stable"


def test_a_clock_that_stands_still_is_named(make_report: MakeReport) -> None:
    text = single_stream(make_report(latency_ms=[0.0] * 10 + [1.0] * 8))
    assert "the clock stood still" in text


def wavering(make_report: MakeReport) -> Report:
    return make_report(latency_ms=np.tile([1.0, 1.3], 450))


@pytest.mark.parametrize(
    ("device", "governor", "remedy"),
    [
        ("rpi", "ondemand", "sudo cpupower frequency-set -g performance"),
        ("jetson", "schedutil", "sudo jetson_clocks"),
        ("rpi", "powersave", "holds the clock low"),
        ("local", "performance", "no cause was found"),
        ("local", "userspace", "no cause was found"),
        ("local", None, "no cause was found"),
    ],
)
def test_a_governor_is_a_cause_with_its_remedy(
    make_report: MakeReport, device: str, governor: str | None, remedy: str
) -> None:
    report = wavering(make_report)
    board = replace(report.device, device=device, governor=governor)
    assert remedy in single_stream(replace(report, device=board))


def test_background_load_and_too_many_threads_are_causes(make_report: MakeReport) -> None:
    report = wavering(make_report)
    report = replace(
        report,
        latency=replace(report.latency, background_cores=0.84),
        backend=replace(report.backend, threads=4),
    )
    text = single_stream(report)
    assert "other processes kept 0.8 cores busy" in text
    assert "4 threads share 2 cores: give --threads 2" in text
    assert "no cause" not in text


@pytest.mark.parametrize(("busy", "threads"), [(0.1, 2), (0.05, 1), (0.0, None)])
def test_a_little_load_and_a_thread_for_each_core_are_no_causes(
    make_report: MakeReport, busy: float, threads: int | None
) -> None:
    report = wavering(make_report)
    report = replace(
        report,
        latency=replace(report.latency, background_cores=busy),
        backend=replace(report.backend, threads=threads),
    )
    assert "no cause was found" in single_stream(report)


def test_a_tenth_of_a_core_and_more_of_others_is_a_cause(make_report: MakeReport) -> None:
    report = wavering(make_report)
    report = replace(report, latency=replace(report.latency, background_cores=0.11))
    assert "other processes kept 0.1 cores busy" in single_stream(report)


def test_throttling_is_the_first_cause(make_report: MakeReport) -> None:
    counter = Series(quantity=EVENTS, name="oc1", values=encode_series([3, 9]))
    samples = Samples(period_us=100_000, time_us="0 100000", series=(counter,))
    report = replace(wavering(make_report), telemetry=Telemetry(samples=(samples,), phases=()))
    assert stabilities(report)["single-stream"].causes[0].startswith("the board throttled (oc1 (6")
    # Before anything was timed it explains nothing.
    timed = Phase(name="latency", begin_us=200_000, end_us=300_000)
    counted = replace(counter, values=encode_series([3, 9, 9, 9]))
    later = replace(samples, time_us="0 100000 100000 100000", series=(counted,))
    early = replace(report, telemetry=Telemetry(samples=(later,), phases=(timed,)))
    assert "throttled" not in single_stream(early)


def test_a_stable_timing_has_no_causes(make_report: MakeReport) -> None:
    report = make_report(latency_ms=STEADY)
    loaded = replace(report, latency=replace(report.latency, background_cores=1.5))
    assert stabilities(loaded)["single-stream"].causes == ()


def test_a_soak_that_drifts_is_unstable_and_a_steady_one_is_not_named(
    make_report: MakeReport,
) -> None:
    report = make_report(latency_ms=STEADY)
    rising = Soak(minutes=1, latency_ns=encode_series(range(1000, 2000)))
    falling = Soak(minutes=1, latency_ns=encode_series(range(2000, 1000, -1)))
    steady = Soak(minutes=1, latency_ns=encode_series([1000] * 100))
    found = stabilities(replace(report, soak=rising))["soak"]
    assert found.symptoms[0].startswith("latency changed by +")
    assert "cool it" in str(found)
    faster = stabilities(replace(report, soak=falling))["soak"]
    assert faster.symptoms[0].startswith("latency changed by -")
    busy = replace(rising, background_cores=1.0)
    assert "cool it" not in str(stabilities(replace(report, soak=busy))["soak"])
    assert "soak" not in stabilities(replace(report, soak=steady))
