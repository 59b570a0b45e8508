"""A gate lets a report pass only on what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from edge_bench.core.errors import InconclusiveError, InputError
from edge_bench.core.gate import Gate
from edge_bench.core.spec import Report
from edge_bench.policy.gate import check, read_conditions

MakeReport = Callable[..., Report]

RIGHT_9_OF_10 = "1111111110"
RIGHT_6_OF_10 = "1111110000"


@pytest.fixture
def report(make_report: MakeReport) -> Report:
    """Clean accuracy 0.9, robust accuracy 0.6, p95 of 1 ms, 1000 bytes."""
    return make_report(RIGHT_9_OF_10, {"pgd": RIGHT_6_OF_10})


def sentences(report: Report, gate: Gate, baseline: Report | None = None) -> list[str]:
    return [violation.sentence for violation in check(report, gate, baseline)]


@pytest.mark.parametrize(
    # The second is met to the last digit: equality passes.
    "condition",
    [
        {"min_clean_accuracy": 0.89},
        {"min_clean_accuracy": 0.9},
        {"min_robust_accuracy": 0.59},
        {"min_robust_accuracy": 0.6},
        {"max_latency_p95_ms": 1.01},
        {"max_latency_p95_ms": 1.0},
        {"max_size_bytes": 1001},
        {"max_size_bytes": 1000},
    ],
)
def test_a_condition_that_is_met_passes(report: Report, condition: dict[str, Any]) -> None:
    assert check(report, Gate(**condition)) == []


@pytest.mark.parametrize(
    ("condition", "option", "sentence"),
    [
        (
            {"min_clean_accuracy": 0.91},
            "--min-clean-accuracy",
            "clean accuracy is 0.9000 on 10 samples, 0.0100 below --min-clean-accuracy 0.91",
        ),
        (
            {"min_robust_accuracy": 0.65},
            "--min-robust-accuracy",
            "worst-case robust accuracy is 0.6000 on 10 samples, 0.0500 below "
            "--min-robust-accuracy 0.65",
        ),
        (
            {"max_latency_p95_ms": 0.75},
            "--max-latency-p95-ms",
            "p95 latency is 1.000 ms over 200 runs, 0.250 ms above --max-latency-p95-ms 0.75",
        ),
        (
            {"max_size_bytes": 999},
            "--max-size-bytes",
            "the artefact has 1000 bytes, 1 above --max-size-bytes 999",
        ),
    ],
)
def test_a_condition_that_is_not_met_fails_by_name_and_amount(
    report: Report, condition: dict[str, Any], option: str, sentence: str
) -> None:
    (violation,) = check(report, Gate(**condition))
    assert (violation.condition, violation.sentence) == (option, sentence)


def test_every_condition_that_is_not_met_is_told(report: Report) -> None:
    gate = Gate(
        min_clean_accuracy=1,
        min_robust_accuracy=0.6,
        max_latency_p95_ms=0.5,
        max_size_bytes=10,
    )
    assert [v.condition for v in check(report, gate)] == [
        "--min-clean-accuracy",
        "--max-size-bytes",
        "--max-latency-p95-ms",
    ]


def test_robustness_is_judged_by_the_worst_case_over_the_sets(make_report: MakeReport) -> None:
    # Each set leaves 0.8, but both together 0.6.
    report = make_report("1" * 10, {"fgsm": "0011111111", "pgd": "1111111100"})
    assert check(report, Gate(min_robust_accuracy=0.6)) == []
    assert len(check(report, Gate(min_robust_accuracy=0.61))) == 1


@pytest.mark.parametrize(
    ("clean_mask", "condition", "what"),
    [
        (None, {"min_clean_accuracy": 0.0}, "clean accuracy"),
        (None, {"min_robust_accuracy": 0.0}, "worst-case robust accuracy"),
        ("111", {"min_robust_accuracy": 0.0}, "worst-case robust accuracy"),
    ],
)
def test_what_was_not_measured_fails_even_the_weakest_condition(
    make_report: MakeReport, clean_mask: str | None, condition: dict[str, Any], what: str
) -> None:
    (sentence,) = sentences(make_report(clean_mask), Gate(**condition))
    assert sentence.startswith(f"{what} was not measured")
    assert sentence.endswith("run ardx bench with --sets")


@pytest.mark.parametrize("slow", [10, 11])
def test_p95_forgives_the_slowest_twentieth_and_no_more(make_report: MakeReport, slow: int) -> None:
    # Of 201 samples, 10 are above the 95th percentile's rank (190 of 0 to 200).
    report = make_report(latency_ms=[1.0] * (201 - slow) + [50.0] * slow)
    assert (len(check(report, Gate(max_latency_p95_ms=2))) == 1) == (slow == 11)


@pytest.mark.parametrize("samples", [1, 129])
def test_too_few_latency_samples_decide_nothing(make_report: MakeReport, samples: int) -> None:
    report = make_report(latency_ms=[1.0] * samples)
    sentence = f"needs 130 samples or more, the report has {samples}; run .*--runs 130"
    with pytest.raises(InconclusiveError, match=sentence):
        check(report, Gate(max_latency_p95_ms=100))


def test_what_cannot_be_decided_does_not_hide_what_fails(make_report: MakeReport) -> None:
    report = make_report("1100", {"pgd": "1000"}, latency_ms=[1.0] * 20)
    found = check(report, Gate(max_latency_p95_ms=100, min_robust_accuracy=0.5))
    assert [v.condition for v in found] == ["--min-robust-accuracy"]


def test_the_latency_of_a_bound_batch_is_not_that_of_one_image(make_report: MakeReport) -> None:
    report = make_report(latency_ms=[1.0] * 200)
    bound = replace(report, latency=replace(report.latency, batch_size=4))
    (violation,) = check(bound, Gate(max_latency_p95_ms=100))
    assert "batches of 4" in violation.sentence


def test_the_least_number_of_latency_samples_decides(make_report: MakeReport) -> None:
    assert check(make_report(latency_ms=[1.0] * 130), Gate(max_latency_p95_ms=1)) == []


def test_few_latency_samples_do_not_matter_where_latency_is_not_asked(
    make_report: MakeReport,
) -> None:
    assert check(make_report(latency_ms=[1.0]), Gate(max_size_bytes=1000)) == []


# --- the drop against a baseline --------------------------------------------------------------


def test_a_drop_is_told_with_its_samples_and_an_exact_test(make_report: MakeReport) -> None:
    baseline = make_report("1" * 100, {"pgd": "1" * 60 + "0" * 40})
    report = make_report("1" * 100, {"pgd": "0" * 20 + "1" * 45 + "0" * 35})
    (sentence,) = sentences(report, Gate(max_robust_drop=0.1), baseline)
    p_value = binomtest(5, 25, 0.5).pvalue
    assert sentence == (
        "worst-case robust accuracy fell from 0.6000 to 0.4500, by 0.1500, above "
        f"--max-robust-drop 0.1 (20 samples lost, 5 won; exact McNemar p = {p_value:.2g}: "
        "statistically real at the 5% level)"
    )


def test_a_drop_that_chance_explains_fails_and_is_called_so(make_report: MakeReport) -> None:
    baseline = make_report("1" * 10, {"pgd": "1111100000"})
    report = make_report("1" * 10, {"pgd": "0000111000"})
    (sentence,) = sentences(report, Gate(max_robust_drop=0.1), baseline)
    assert "within what chance explains" in sentence


@pytest.mark.parametrize("lost", range(1, 10))
def test_a_drop_of_exactly_the_limit_passes(make_report: MakeReport, lost: int) -> None:
    # 0.9 - 0.6 is above 0.3 in floating point.
    baseline = make_report("1" * 10, {"pgd": RIGHT_9_OF_10})
    report = make_report("1" * 10, {"pgd": "1" * (9 - lost) + "0" * (1 + lost)})
    assert check(report, Gate(max_robust_drop=lost / 10), baseline) == []


def test_a_drop_of_one_sample_beyond_the_limit_fails(make_report: MakeReport) -> None:
    baseline = make_report("1" * 1000, {"pgd": "1" * 1000})
    report = make_report("1" * 1000, {"pgd": "1" * 899 + "0" * 101})
    assert len(check(report, Gate(max_robust_drop=0.1), baseline)) == 1


def test_a_gain_passes_a_gate_that_allows_no_drop(make_report: MakeReport) -> None:
    baseline = make_report("1" * 10, {"pgd": RIGHT_6_OF_10})
    report = make_report("1" * 10, {"pgd": RIGHT_9_OF_10})
    assert check(report, Gate(max_robust_drop=0), baseline) == []


def test_a_report_does_not_drop_against_itself(report: Report) -> None:
    assert check(report, Gate(max_robust_drop=0), report) == []


@pytest.mark.parametrize("which", ["the report", "the baseline"])
def test_a_drop_without_robust_accuracy_on_both_sides_is_a_violation(
    make_report: MakeReport, report: Report, which: str
) -> None:
    bare = make_report(RIGHT_9_OF_10)
    pair = (bare, report) if which == "the report" else (report, bare)
    (sentence,) = sentences(pair[0], Gate(max_robust_drop=1), pair[1])
    assert sentence.startswith(f"robust accuracy was not measured in {which}")


def test_a_baseline_over_other_images_is_refused(make_report: MakeReport, report: Report) -> None:
    other = make_report(RIGHT_9_OF_10, {"pgd": RIGHT_6_OF_10}, images_sha256="d" * 64)
    with pytest.raises(InputError, match="--baseline: was measured on other clean images"):
        check(report, Gate(max_robust_drop=0.1), other)


@pytest.mark.parametrize(
    ("sets", "epsilon", "names"),
    [
        ({"fgsm": RIGHT_6_OF_10}, 8 / 255, "fgsm, pgd"),
        ({"pgd": RIGHT_6_OF_10, "fgsm": RIGHT_6_OF_10}, 8 / 255, "fgsm"),
        ({"pgd": RIGHT_6_OF_10}, 4 / 255, "pgd"),
    ],
)
def test_a_baseline_under_other_attacks_is_refused(
    make_report: MakeReport, report: Report, sets: dict[str, str], epsilon: float, names: str
) -> None:
    other = make_report(RIGHT_9_OF_10, sets, epsilon=epsilon)
    with pytest.raises(InputError, match=rf"under other attacks .*\(they differ in {names}\)"):
        check(report, Gate(max_robust_drop=0.1), other)


@pytest.mark.parametrize(
    # By hand: 2 / 2**5 = 0.0625 and 2 / 2**6 = 0.03125.
    ("lost", "verdict"),
    [(5, "p = 0.062: within what chance explains"), (6, "p = 0.031: statistically real")],
)
def test_a_drop_is_real_at_the_5_percent_level(
    make_report: MakeReport, lost: int, verdict: str
) -> None:
    baseline = make_report("1" * 10, {"pgd": "1" * 10})
    report = make_report("1" * 10, {"pgd": "0" * lost + "1" * (10 - lost)})
    (sentence,) = sentences(report, Gate(max_robust_drop=0.1), baseline)
    assert verdict in sentence


# --- a gate that asks for nothing -------------------------------------------------------------


def test_a_gate_without_conditions_is_refused(report: Report) -> None:
    with pytest.raises(InputError, match="nothing to check; give a condition"):
        check(report, Gate())


def test_a_baseline_without_a_limit_is_refused(report: Report) -> None:
    with pytest.raises(InputError, match="--baseline and --max-robust-drop: expected both"):
        check(report, Gate(min_clean_accuracy=0.5), report)


def test_a_limit_without_a_baseline_is_refused(report: Report) -> None:
    with pytest.raises(InputError, match="--baseline and --max-robust-drop: expected both"):
        check(report, Gate(max_robust_drop=0.1))


def test_a_byte_order_mark_is_no_part_of_conditions(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_bytes(b"\xef\xbb\xbfmin_clean_accuracy = 0.5\n")
    assert read_conditions(path, {}).min_clean_accuracy == 0.5
