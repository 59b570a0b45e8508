"""The figures of a report follow from its masks and samples."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from edge_bench.core.spec import Report
from edge_bench.report.summary import accuracy_rows, performance_rows, summarise

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


def test_the_accuracy_table_of_a_report_without_images_is_empty(make_report: MakeReport) -> None:
    assert accuracy_rows(make_report()) == []


def test_the_performance_table_names_each_figure_with_its_unit(report: Report) -> None:
    rows = dict(performance_rows(report))
    assert rows["latency p99 (batch 1), of too few samples: 100 of 662"] == "9.000 ms"
    assert "latency p90 (batch 1)" in rows
    assert rows["first inference"] == "7.000 ms"
    assert rows["throughput (batch 1)"] == "926 images/s"  # 100 images in 108 ms
    assert rows["peak memory of the process"] == "1 MiB"
    assert rows["size"] == "9216 KiB"
