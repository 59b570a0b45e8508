"""Latencies of two reports are told apart only where their raw samples can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_bench.compare.latencies import drawn_percentiles
from edge_bench.compare.reports import compare_reports
from edge_bench.compare.told import sentences
from edge_bench.core.spec import Report

MakeReport = Callable[..., Report]


@pytest.mark.parametrize(
    ("factor", "calls", "verdict"),
    [(1.0, 1000, "same"), (1.2, 1000, "worse"), (0.8, 1000, "better"), (1.03, 20, "inconclusive")],
)
def test_latency_is_told_apart_by_bootstrap(
    make_report: MakeReport, factor: float, calls: int, verdict: str
) -> None:
    rng = np.random.default_rng(0)
    times = 10 + rng.exponential(size=(2, calls))
    old = make_report(latency_ms=times[0].tolist())
    new = make_report(latency_ms=(factor * times[1]).tolist())
    median = compare_reports(old, new).latencies[0]
    assert (median.metric, median.verdict) == ("latency_p50_ms", verdict)
    assert median.ratio[1] < median.ratio[0] < median.ratio[2]
    assert median.ratio[0] == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize(
    ("new", "verdict"),
    # A margin of 5 % lets pass a ratio of 1.05, and its inverse 0.952.
    [(9.5, "better"), (9.55, "same"), (10.45, "same"), (10.55, "worse")],
)
def test_a_margin_is_as_wide_for_what_became_faster(
    make_report: MakeReport, new: float, verdict: str
) -> None:
    old, made = (make_report(latency_ms=[ms] * 200) for ms in (10.0, new))
    change = compare_reports(old, made, latency_margin=0.05).latencies[0]
    assert change.verdict == verdict


def test_a_drawn_percentile_is_a_sample_and_the_higher_of_two() -> None:
    # A block is as long as both, so that each draw is of both.
    drawn = drawn_percentiles(np.array([3, 8]), 0.5, 0)
    assert set(drawn.tolist()) == {np.quantile([3, 8], 0.5, method="higher")} == {8}


def test_calls_of_other_batches_are_not_compared(make_report: MakeReport) -> None:
    one = make_report("1" * 100)
    eight = replace(one, latency=replace(one.latency, batch_size=8))
    assert compare_reports(one, eight).latencies == ()
    assert len(compare_reports(eight, eight).latencies) == 2


def test_two_runs_are_drawn_from_each_for_itself(make_report: MakeReport) -> None:
    rng = np.random.default_rng(0)
    made = make_report(latency_ms=(10 + rng.exponential(size=500)).tolist())
    ratio, low, high = compare_reports(made, made).latencies[0].ratio
    # The very same calls in both leave as much doubt as any other two runs alike.
    assert ratio == 1
    assert low < 0.995 < 1.005 < high


def test_blocks_widen_the_interval_of_a_latency_that_drifts() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=2000)
    drift = np.repeat(rng.normal(size=100), 20) * 3  # The same for twenty calls.
    smooth = (1e6 + 1e4 * (noise + drift)).astype(np.int64)
    shuffled = rng.permutation(smooth)
    assert drawn_percentiles(smooth, 0.5, 0).std() > 1.8 * drawn_percentiles(shuffled, 0.5, 0).std()


def test_the_bootstrap_of_a_median_is_as_wide_as_scipy_s() -> None:
    from scipy.stats import bootstrap

    samples = np.random.default_rng(1).exponential(scale=1e6, size=500).astype(np.int64)
    ours = np.quantile(drawn_percentiles(samples, 0.5, 0), [0.025, 0.975])
    theirs = bootstrap(
        (samples,), np.median, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours == pytest.approx([theirs.low, theirs.high], rel=0.06)


@pytest.mark.parametrize("calls", [(129, 200), (200, 129), (130, 130)])
def test_a_percentile_that_one_of_both_has_too_few_calls_for_is_left_out(
    make_report: MakeReport, calls: tuple[int, int]
) -> None:
    old, new = (make_report(latency_ms=[1.0] * count) for count in calls)
    told = [each.metric for each in compare_reports(old, new).latencies]
    assert told == ["latency_p50_ms", "latency_p95_ms"][: 1 if 129 in calls else 2]


@pytest.mark.parametrize(
    ("zeros", "told"),
    [(199, []), (101, ["latency_p95_ms"]), (5, ["latency_p50_ms", "latency_p95_ms"])],
)
def test_a_clock_of_long_steps_tells_no_ratio(
    make_report: MakeReport, zeros: int, told: list[str]
) -> None:
    coarse = make_report("1" * 100, latency_ms=[*[0.0] * zeros, *[10.0] * (200 - zeros)])
    change = compare_reports(coarse, make_report("1" * 100))
    assert [latency.metric for latency in change.latencies] == told


@pytest.mark.parametrize(
    "other", [{"board": "Pi 5"}, {"cpu": "another"}, {"power_mode": "15W"}, {"threads": 4}]
)
def test_latencies_of_another_machine_are_said_to_be_such(
    make_report: MakeReport, other: dict[str, Any]
) -> None:
    old = make_report("1" * 100)
    new = replace(
        old,
        device=replace(old.device, **{k: v for k, v in other.items() if k != "threads"}),
        backend=replace(old.backend, threads=other.get("threads")),
    )
    assert compare_reports(old, old).is_same_device
    assert any("their ratio is that of machines" in s for s in sentences(compare_reports(old, new)))
