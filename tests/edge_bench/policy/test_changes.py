"""What changed against a baseline is decided on the same samples, and sure to one side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_bench.core.errors import InputError
from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.files.store import write_json
from edge_bench.policy.baseline import Baseline, baseline_of, read_baseline
from edge_bench.policy.broken import broken
from edge_bench.statistics.stats import paired_difference_interval, quantile_interval

from ..walks import SAMPLES, walked
from .judging import changed, verdict

MakeReport = Callable[..., Report]


@pytest.mark.parametrize(
    ("lost", "won", "margin", "status"),
    [
        (0, 0, "1%", "passed"),  # Nothing changed: even a narrow margin is met.
        (0, 0, "0.1%", "inconclusive"),  # But not narrower than what 1,000 samples show.
        (30, 30, "2%", "passed"),
        (30, 30, "1%", "inconclusive"),
        (40, 10, "1%", "failed"),
        (80, 10, "10%", "passed"),
    ],
)
def test_a_drop_is_held_to_non_inferiority(
    report: Report, lost: int, won: int, margin: str, status: str
) -> None:
    new = changed(report, lost, won)
    found = verdict(new, f"drop(worst_case) <= {margin}", baseline=report, confidence=0.95)
    (outcome,) = found.outcomes
    assert found.status == status
    assert outcome.observed == pytest.approx((lost - won) / 1000)
    assert f"{lost} samples lost, {won} won" in outcome.sentence
    assert ("; replay more images, or allow" in outcome.sentence) == (status == "inconclusive")
    # Sure to one side: 5% lie beyond either end.
    low, high = paired_difference_interval(lost, won, 1000, 0.9)
    assert outcome.interval == pytest.approx((-high, -low))


def test_a_relative_drop_is_of_what_there_was(report: Report) -> None:
    new = changed(report, 50)
    was = 504 / 1000
    for limit, status in ((0.05 / was + 1e-6, "passed"), (0.05 / was - 1e-4, "failed")):
        found = verdict(new, f"relative_drop(worst_case) <= {limit:.6f}", baseline=report)
        assert found.status == status
        assert found.outcomes[0].observed == pytest.approx(0.05 / was)


def test_a_drop_of_a_class_is_of_its_samples(report: Report) -> None:
    new = changed(report, 9)  # The first nine images: one of each class but 9.
    found = verdict(new, "drop(class:*) <= 1%", "drop(worst_class) <= 1%", baseline=report)
    assert [outcome.observed for outcome in found.outcomes] == pytest.approx([0.01] * 9 + [0, 0])
    assert found.status == "passed"
    assert verdict(new, "drop(class:4) <= 0.9%", baseline=report).status == "failed"


def test_the_worst_class_is_the_least_accurate_and_not_the_smallest(
    make_report: MakeReport,
) -> None:
    # 45 of 90 images of one class are right, and 9 of 10 of the other.
    right = "1" * 45 + "0" * 45 + "1" * 9 + "0"
    made = make_report("1" * 100, {"pgd": right})
    report = replace(made, labels=encode_series([0] * 90 + [1] * 10))
    (outcome,) = verdict(report, "drop(worst_class) <= 0%", baseline=report).outcomes
    assert (outcome.observed, outcome.status) == (0, "passed")


def test_a_drop_of_a_class_unattacked_is_of_its_clean_images(report: Report) -> None:
    clean = np.array(list(report.clean_mask or "")) == "1"
    clean[[3, 13, 23]] = False  # Of the 100 images of class 3, each of which was right.
    new = replace(report, clean_mask="".join("01"[int(c)] for c in clean))
    (outcome,) = verdict(new, "drop(clean_class:3) <= 2%", baseline=report).outcomes
    assert outcome.observed == pytest.approx(0.03)
    assert outcome.status == "failed"
    (outcome,) = verdict(new, "drop(clean_class:4) <= 0%", baseline=report).outcomes
    assert (outcome.observed, outcome.status) == (0, "passed")


def test_a_rise_is_against_the_baseline_s_figure(make_report: MakeReport) -> None:
    old, new = make_report(latency_ms=[10.0] * 200), make_report(latency_ms=[10.4] * 200)
    held = {
        "rise(latency_p95_ms) <= 0.5": "passed",
        "rise(latency_p95_ms) <= 0.3": "failed",
        "relative_rise(latency_p50_ms) <= 5%": "passed",
        "relative_rise(latency_p50_ms) <= 3%": "failed",
        "drop(images_per_second) <= 4": "passed",
        "relative_drop(images_per_second) <= 3%": "failed",
    }
    found = verdict(new, *held, baseline=old)
    assert [outcome.status for outcome in found.outcomes] == list(held.values())
    assert "p50 latency went from 10.000 ms to 10.400 ms" in found.outcomes[2].sentence
    units = [outcome.unit for outcome in found.outcomes]
    assert units == ["ms", "ms", "fraction", "fraction", "1/s", "fraction"]


def test_a_rise_is_sure_to_one_side(make_report: MakeReport) -> None:
    times = (10 + np.random.default_rng(0).exponential(size=500)).tolist()
    old, new = make_report(latency_ms=[10.0] * 200), make_report(latency_ms=times)
    (outcome,) = verdict(new, "rise(latency_p50_ms) <= 1", baseline=old, confidence=0.95).outcomes
    # As for a drop: 5% lie above the upper end, and 5% below the lower one.
    ends = quantile_interval(new.latency.latency_ns, 0.5, 0.9)
    assert ends is not None
    assert outcome.interval == pytest.approx([end / 1e6 - 10 for end in ends])


@pytest.mark.parametrize("size", [1_234_567, 123_456_789])
def test_a_report_does_not_rise_against_itself(make_report: MakeReport, size: int) -> None:
    rng = np.random.default_rng(1)
    times = (10 + rng.exponential(size=200)).tolist()
    old = make_report("1", {}, size_bytes=size, latency_ms=times)
    kept = [f"rise({m}) <= 0" for m in ("size_bytes", "latency_p50_ms", "latency_p95_ms")]
    assert verdict(old, *kept, "drop(images_per_second) <= 0", baseline=old).status == "passed"
    grown = make_report("1", {}, size_bytes=size + 1, latency_ms=times)
    assert verdict(grown, "rise(size_bytes) <= 0", baseline=old).status == "failed"
    assert verdict(grown, "rise(size_bytes) <= 1", baseline=old).status == "passed"


def test_a_change_needs_a_baseline_of_the_same_family(report: Report) -> None:
    with pytest.raises(InputError, match="compares with a baseline; give --baseline"):
        verdict(report, "drop(clean) <= 1%")
    card = report.artifact.card
    assert card is not None
    other = replace(
        report, artifact=replace(report.artifact, card=replace(card, architecture="resnet8"))
    )
    with pytest.raises(InputError, match="of the architecture resnet8, but the report is"):
        verdict(report, "drop(clean) <= 1%", baseline=other)


def with_pictures(report: Report, wrong: range = range(0), **fields: Any) -> Report:
    return replace(report, pictures=walked(wrong, **fields))


def test_a_baseline_keeps_who_was_right_from_file_to_logits(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    write_json(path, baseline_of(with_pictures(report, range(100, 110))), force=False)
    found = read_baseline(path).pictures
    assert found is not None
    assert (found.samples, found.accuracy, found.pipeline) == (SAMPLES, 0.975, "pillow")
    assert np.flatnonzero(~found.mask).tolist() == list(range(100, 110))
    with pytest.raises(InputError, match=r"of pictures to be that of its bits, 0\.975, came 0\.98"):
        replace(found, accuracy=0.98)
    with pytest.raises(InputError, match="expected the bits of 399 samples"):
        replace(found, right=found.right[:-4], samples=399)


@pytest.mark.parametrize(
    ("wrong", "confidence", "status"),
    [
        (range(4), None, "passed"),
        (range(5), None, "failed"),
        (range(4), 0.95, "inconclusive"),
        (range(0), 0.95, "passed"),
        (range(40), 0.95, "failed"),
    ],
)
def test_a_drop_from_file_to_logits_is_paired(
    report: Report, wrong: range, confidence: float | None, status: str
) -> None:
    old = with_pictures(report)
    new = with_pictures(report, wrong, pipeline="opencv")
    found = verdict(new, "drop(path_accuracy) <= 1%", baseline=old, confidence=confidence)
    assert found.status == status
    (outcome,) = found.outcomes
    assert outcome.samples == SAMPLES
    assert f"{len(wrong)} samples lost, 0 won" in outcome.sentence


def test_a_drop_needs_the_same_pictures_on_both_sides(report: Report) -> None:
    condition = "relative_drop(path_accuracy) <= 1%"
    old = with_pictures(report, files_sha256="e" * 64)
    with pytest.raises(InputError, match="was measured on other pictures than the report"):
        verdict(with_pictures(report), condition, baseline=old)
    for new, before, which in (
        (report, old, "the report"),
        (old, report, "the baseline"),
    ):
        found = verdict(new, condition, baseline=before)
        assert found.status == "failed"
        assert f"was not measured in {which}" in found.outcomes[0].sentence
        assert "run ardx bench with --pictures" in found.outcomes[0].sentence
    # Other conditions are held whatever the pictures are.
    assert verdict(with_pictures(report), "drop(clean) <= 1%", baseline=old).status == "passed"


def test_what_broke_is_told_by_index_and_class(report: Report) -> None:
    found = broken(changed(report, 3), baseline_of(report))
    assert found is not None
    assert (found.lost, found.won) == ((0, 1, 2), ())
    assert found.lost_by_class == (("0", 1), ("1", 1), ("2", 1))
    assert found.sentence().startswith("newly broken: 3 samples (0, 1, 2); by class: 0 1, 1 1")
    told = [broken(changed(report, lost), baseline_of(report)) for lost in (20, 21)]
    assert [each is not None and "more" in each.sentence() for each in told] == [False, True]
    # The first 12 that were right: two of classes 0 to 2, one of the others but the 9th.
    most = broken(changed(report, 12), baseline_of(report))
    assert most is not None
    assert most.lost_by_class[:4] == (("0", 2), ("1", 2), ("2", 2), ("3", 1))
    other: Baseline = replace(baseline_of(report), images_sha256="d" * 64)
    assert broken(report, other) is None
