"""A policy decides by intervals where it is asked to, and by nothing that was not measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from edge_bench.core.errors import InputError
from edge_bench.core.spec import AttackSpec, Report
from edge_bench.core.timings import Measurement
from edge_bench.files.store import write_json
from edge_bench.policy.baseline import baseline_of, read_baseline
from edge_bench.policy.condition import parse_condition
from edge_bench.policy.evaluate import Circumstances, evaluate
from edge_bench.policy.measured import throughput_interval
from edge_bench.policy.policy_file import Policy
from edge_bench.statistics.stats import wilson_interval

from .judging import mask, verdict

MakeReport = Callable[..., Report]


# --- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("floor", "status"),
    [(0.46, "passed"), (0.49, "inconclusive"), (0.52, "inconclusive"), (0.54, "failed")],
)
def test_a_floor_is_decided_only_outside_the_interval(
    make_report: MakeReport, floor: float, status: str
) -> None:
    report = make_report(mask(1000, 0), {"pgd": mask(504, 496)})
    low, high = wilson_interval(504, 1000)
    assert (low, high) == pytest.approx((0.473, 0.535), abs=1e-3)
    found = verdict(report, f"worst_case >= {floor}", confidence=0.95)
    (outcome,) = found.outcomes
    assert found.status == status
    assert outcome.interval == pytest.approx((low, high))


@pytest.mark.parametrize(("policy", "status"), [("fail", "failed"), ("pass", "passed")])
def test_a_policy_says_what_inconclusive_comes_to(report: Report, policy: str, status: str) -> None:
    found = verdict(report, "worst_case >= 0.5", confidence=0.95, inconclusive=policy)
    assert found.status == status
    assert "does not decide worst_case >= 0.5" in found.outcomes[0].sentence


def test_only_the_critical_tier_decides(report: Report) -> None:
    for tier in ("supporting", "advisory"):
        found = verdict(report, "worst_case >= 0.99", tier=tier)
        assert (found.status, found.outcomes[0].status) == ("passed", "failed")


def test_what_failed_is_no_less_failed_beside_what_is_undecided(report: Report) -> None:
    asked = ("worst_case >= 0.5", "clean >= 0.99")
    found = verdict(report, *asked, confidence=0.95)
    assert [outcome.status for outcome in found.outcomes] == ["inconclusive", "failed"]
    assert found.status == "failed"


def test_each_class_and_each_attack_is_a_condition_of_its_own(report: Report) -> None:
    found = verdict(report, "class:* >= 0.5", "attack:* >= 0.5", "clean_class:3 >= 1")
    assert [outcome.condition for outcome in found.outcomes] == [
        *(f"class:{name}" for name in range(10)),
        "attack:pgd",
        "clean_class:3",
    ]
    failed = [outcome for outcome in found.outcomes if outcome.status == "failed"]
    assert [outcome.condition for outcome in failed] == ["class:9"]
    assert failed[0].samples == 100


def test_the_worst_class_is_named(report: Report) -> None:
    (outcome,) = verdict(report, "worst_class >= 0.1").outcomes
    assert outcome.observed == 0.0
    assert "of the worst class, 9, is 0.0000 on 100 samples, 0.1000 below" in outcome.sentence


@pytest.mark.parametrize("condition", ["attack:cw >= 0.1", "class:cat >= 0.1", "energy_mj <= 3"])
def test_what_was_not_measured_fails(report: Report, condition: str) -> None:
    (outcome,) = verdict(report, condition, confidence=0.95).outcomes
    assert outcome.status == "failed"
    assert "was not measured" in outcome.sentence
    assert "run ardx bench" in outcome.sentence


def test_classes_of_a_report_without_labels_were_not_measured(make_report: MakeReport) -> None:
    report = make_report("1110", {"pgd": "1100"})
    for condition in ("class:* >= 0.1", "worst_class >= 0.1"):
        assert verdict(report, condition).status == "failed"


def test_performance_is_held_to_its_limits_with_intervals(make_report: MakeReport) -> None:
    rng = np.random.default_rng(0)
    report = make_report("1", {}, latency_ms=(10 + rng.exponential(size=1000)).tolist())
    decided = {
        "latency_p95_ms <= 14": "passed",
        "latency_p95_ms <= 13": "inconclusive",
        "latency_p95_ms <= 12": "failed",
        "latency_p50_ms <= 10.9": "passed",
        "latency_p99_ms <= 11": "failed",
        "images_per_second >= 80": "passed",
        "images_per_second >= 95": "failed",
        "size_bytes <= 999": "failed",
        "memory_bytes <= 1048576": "passed",
    }
    found = verdict(report, *decided, confidence=0.95)
    assert [o.status for o in found.outcomes] == list(decided.values())
    told = [o.sentence for o in found.outcomes if o.unit in ("ms", "1/s")]
    assert all(" over 1000 runs (interval " in sentence for sentence in told)


@pytest.mark.parametrize(
    ("condition", "calls", "confidence"),
    [
        ("latency_p95_ms <= 30", 135, 0.999),  # 130 suffice for a value, not for these ends.
        ("latency_p95_ms <= 1", 135, 0.999),
        ("images_per_second >= 1", 1, 0.95),
        ("images_per_second >= 1e6", 1, 0.95),
    ],
)
def test_a_confidence_that_the_samples_cannot_give_decides_nothing(
    make_report: MakeReport, condition: str, calls: int, confidence: float
) -> None:
    rng = np.random.default_rng(0)
    report = make_report("1", {}, latency_ms=(10 + rng.exponential(size=calls)).tolist())
    (outcome,) = verdict(report, condition, confidence=confidence).outcomes
    assert outcome.status == "inconclusive"
    assert f"over {calls} runs has no interval of confidence {confidence:g}" in outcome.sentence
    change = f"rise({condition})" if "latency" in condition else f"drop({condition})"
    change = f"{change.split()[0]}) <= 1000"
    (outcome,) = verdict(report, change, baseline=report, confidence=0.9999).outcomes
    assert outcome.status == "inconclusive"
    assert "has no interval of confidence" in outcome.sentence
    assert verdict(report, condition).outcomes[0].status in ("passed", "failed")


@pytest.mark.parametrize("calls", [10, 40])
def test_a_throughput_s_interval_holds_it_as_often_as_it_says(calls: int) -> None:
    """Of Student's t: few calls of an artefact are usual on a slow board."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(3000):
        times = tuple(int(ns) for ns in 1e6 * rng.normal(10, 1, size=calls))
        timed = Measurement(batch_size=4, warmup_runs=0, first_ns=1, latency_ns=times)
        low, high = throughput_interval(timed, 0.95) or (0.0, 0.0)
        held += low <= 400 <= high
    assert held / 3000 == pytest.approx(0.95, abs=0.015)


def test_a_calm_report_of_two_calls_that_differ_widely_tells_no_throughput() -> None:
    timed = Measurement(batch_size=1, warmup_runs=0, first_ns=1, latency_ns=(10**8, 3 * 10**9))
    assert throughput_interval(timed, 0.95) is None


def test_a_mean_of_corruptions_of_exactly_the_limit_passes(report: Report) -> None:
    fog = AttackSpec(name="fog", epsilon=1, step_size=None, steps=None, severity=1)
    (result,) = report.sets
    for right in range(1, 1000, 37):
        masks = [mask(right, 1000 - right), mask(500, 500), mask(0, 1000)]
        manifest = replace(result.manifest, threat="corruption", attack=fog)
        sets = [
            replace(result, name=str(i), mask=m, manifest=manifest) for i, m in enumerate(masks)
        ]
        exactly = (right + 500) / 3000
        found = verdict(replace(report, sets=tuple(sets)), f"corruption >= {exactly!r}")
        assert found.outcomes[0].status == "passed", right
        assert "below" not in found.outcomes[0].sentence


# --- the report itself -------------------------------------------------------------------------


def test_a_report_of_another_file_device_or_time_fails(report: Report) -> None:
    created = datetime.fromisoformat(report.created)
    policy = Policy(conditions=(parse_condition("clean >= 0.1"),), device="jetson", max_age_days=10)

    def statuses(days: float, sha256: str) -> dict[str, str]:
        given = Circumstances(artifact_sha256=sha256, now=created + timedelta(days=days))
        found = evaluate(report, policy, given)
        return {outcome.condition: outcome.status for outcome in found.outcomes}

    assert statuses(9, "a" * 64) == {
        "artifact": "passed",
        "device": "failed",
        "max_age_days": "passed",
        "clean": "passed",
    }
    assert statuses(11, "b" * 64)["artifact"] == "failed"
    assert statuses(11, "b" * 64)["max_age_days"] == "failed"
    assert statuses(-1, "b" * 64)["max_age_days"] == "failed"
    # Two machines' clocks are never quite the same.
    assert statuses(-60 / 86400, "b" * 64)["max_age_days"] == "passed"
    given = Circumstances(now=created - timedelta(minutes=4))
    assert evaluate(report, policy, given).outcomes[1].sentence == "the report is 0.0 days old"
    # To the day: ten of them are not more than ten.
    assert statuses(10, "b" * 64)["max_age_days"] == "passed"
    assert created.tzinfo == timezone.utc


@pytest.mark.parametrize(
    ("created", "sentence"),
    [("2025-01-01T00:00:00", "0.5 days old"), ("yesterday", "expected a time such as 2025-01-31")],
)
def test_a_time_without_a_zone_is_utc_and_one_that_is_none_is_refused(
    report: Report, created: str, sentence: str
) -> None:
    policy = Policy(conditions=(parse_condition("clean >= 0.1"),), max_age_days=10)
    given = Circumstances(now=datetime(2025, 1, 1, 12, tzinfo=timezone.utc))
    try:
        said = evaluate(replace(report, created=created), policy, given).outcomes[0].sentence
    except InputError as error:
        said = str(error)
    assert sentence in said


def test_doubts_fail_but_those_that_are_excused(report: Report) -> None:
    policy = Policy(conditions=(parse_condition("no_doubts"),), excuse=("upper bound",))
    doubts = ("their robust accuracy is an upper bound: so", "timing of latency: unstable")
    assert evaluate(report, policy, Circumstances(doubts=doubts[:1])).status == "passed"
    found = evaluate(report, policy, Circumstances(doubts=doubts))
    assert (found.status, found.outcomes[0].sentence) == ("failed", doubts[1])


# --- baselines ---------------------------------------------------------------------------------


def test_a_baseline_keeps_masks_and_no_raw_samples(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    write_json(path, baseline_of(report), force=False)
    found = read_baseline(path)
    assert found == baseline_of(report)
    assert path.stat().st_size < 2500
    assert "latency_ns" not in path.read_text(encoding="utf-8")
    worst = found.worst_case_mask()
    assert worst is not None
    assert worst.sum() == 504


@pytest.mark.parametrize("change", [{"samples": 999 - 8}, {"right": "!!"}, {"right": "AA=="}])
def test_a_spoilt_baseline_is_refused(report: Report, change: dict[str, object]) -> None:
    values = baseline_of(report)
    with pytest.raises(InputError, match="expected the bits of"):
        replace(values, **change)  # type: ignore[arg-type]


def test_a_baseline_may_be_of_a_model_that_nothing_stands(make_report: MakeReport) -> None:
    values = baseline_of(make_report("0" * 10, {"pgd": "0" * 10}))
    assert (values.clean_accuracy, values.sets[0].accuracy) == (0, 0)
    perfect = baseline_of(make_report("1" * 10, {"pgd": "1" * 10}))
    assert (perfect.clean_accuracy, perfect.sets[0].accuracy) == (1, 1)


def test_a_baseline_whose_figures_were_edited_is_refused(report: Report) -> None:
    values = baseline_of(report)
    with pytest.raises(InputError, match=r"of the clean images to be that of its bits, 0\.9, came"):
        replace(values, clean_accuracy=0.8)
    with pytest.raises(InputError, match=r"of pgd to be that of its bits, 0\.504, came"):
        replace(values, sets=(replace(values.sets[0], accuracy=0.4),))
