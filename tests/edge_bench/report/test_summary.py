"""The figures of a report follow from its masks and samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.core.timings import Soak, SweepPoint
from edge_bench.report.summary import accuracy_rows, performance_rows, summarise, sweep_rows

MakeReport = Callable[..., Report]


@pytest.fixture
def report(make_report: MakeReport) -> Report:
    return make_report(
        "1110", {"fgsm": "1010", "pgd": "0110"}, latency_ms=[1.0] * 99 + [9.0], size_bytes=9 * 2**20
    )


def test_a_summary_holds_every_accuracy_as_a_fraction(report: Report) -> None:
    summary = summarise(report)
    assert summary["samples"] == 4
    assert summary["clean_accuracy"] == 0.75
    assert summary["robust_accuracy"] == {"fgsm": 0.5, "pgd": 0.5}
    assert summary["worst_case_accuracy"] == 0.25


def test_a_summary_holds_the_percentiles_of_the_raw_samples(report: Report) -> None:
    summary = summarise(report)
    assert summary["latency_ms"] == {"p50": 1.0, "p90": 1.0, "p95": 1.0, "p99": 9.0}
    assert summary["latency_samples"] == 100


def test_a_summary_tells_how_many_images_a_call_had(report: Report) -> None:
    of_eight = replace(report, throughput=replace(report.throughput, batch_size=8))
    summary = summarise(of_eight)
    assert (summary["latency_batch_size"], summary["throughput_batch_size"]) == (1, 8)
    # 800 images in 108 ms.
    assert summary["images_per_second"] == 7407.4


def test_a_summary_of_what_was_not_measured_says_null(make_report: MakeReport) -> None:
    summary = summarise(make_report())
    assert (summary["clean_accuracy"], summary["worst_case_accuracy"]) == (None, None)
    assert (summary["samples"], summary["robust_accuracy"]) == (0, {})


def test_a_summary_can_be_written_as_json(report: Report) -> None:
    assert json.loads(json.dumps(summarise(report), allow_nan=False)) == summarise(report)


def test_the_accuracy_table_shows_percent_with_its_interval_and_its_source(report: Report) -> None:
    # Wilson 95% of 3/4 and 1/4, from scipy.stats.binomtest.
    assert accuracy_rows(report) == [
        ["clean", "none", "75.0 %", "30.1 to 95.4", "4"],
        ["fgsm", "replay of a set crafted on another model", "50.0 %", "15.0 to 85.0", "4"],
        ["pgd", "replay of a set crafted on another model", "50.0 %", "15.0 to 85.0", "4"],
        ["worst case", "all of the above, per sample", "25.0 %", "4.6 to 69.9", "4"],
    ]


def test_the_worst_class_has_a_row_of_its_own_images(report: Report) -> None:
    rows = accuracy_rows(replace(report, labels=encode_series([0, 1, 1, 1])))
    # Wilson 95% of 2/3 and 0/1: the clean mask is 1110, that of the worst case 0010.
    assert rows[-2:] == [
        ["clean, worst class", "1", "66.7 %", "20.8 to 93.9", "3"],
        ["worst case, worst class", "0", "0.0 %", "0.0 to 79.3", "1"],
    ]


def test_the_accuracy_table_of_a_report_without_images_is_empty(make_report: MakeReport) -> None:
    assert accuracy_rows(make_report()) == []


def test_the_performance_table_names_each_figure_with_its_unit(report: Report) -> None:
    rows = dict(performance_rows(replace(report, peak_memory_bytes=300 * 2**20)))
    assert rows["latency p99 (batch 1), of too few samples: 100 of 662"] == "9.000 ms"
    assert "latency p90 (batch 1)" in rows
    assert rows["first inference"] == "7.000 ms"
    assert rows["throughput (batch 1)"] == "926 images/s"  # 100 images in 108 ms
    assert rows["peak memory of the process"] == "300 MiB"
    assert rows["size"] == "9216 KiB"


def test_each_figure_of_a_soak_is_of_its_tenth(report: Report) -> None:
    # 100 calls of 1 ms in each tenth of the time, the last three of 3, 3 and 5 ms there.
    tenth = [1_000_000] * 97 + [3_000_000] * 2 + [5_000_000]
    soak = Soak(minutes=0.5, latency_ns=encode_series(tenth * 10))
    summary = summarise(replace(report, soak=soak))["soak"]
    assert (summary["minutes"], summary["samples"], summary["change"]) == (0.5, 1000, 0)
    assert summary["median_ms"] == [1.0] * 10
    assert summary["p99_ms"] == [5.0] * 10
    rows = dict(performance_rows(replace(report, soak=soak)))
    what = "soak of 0.5 min, median of each 10th of the time"
    assert rows[what] == f"{' '.join(['1.000'] * 10)} ms (+0.0%)"


def test_a_sweep_tells_the_ninetieth_percentile_of_each_setting(report: Report) -> None:
    # The 91st of 100 in order, from 0.01 ms on, as for every percentile.
    timed = replace(
        report.latency, batch_size=4, latency_ns=tuple(range(10_000, 1_010_000, 10_000))
    )
    point = SweepPoint(threads=None, cores=(0, 2), timed=timed)
    (row,) = sweep_rows(replace(report, sweep=(point,)))
    # 400 images in 50.5 ms.
    assert row == ["-", "0+2", "4", "0.510 ms", "0.910 ms", "7921"]
