"""Divergence and corruption of a report, counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from edge_bench.core.errors import InputError
from edge_bench.core.series import encode_series
from edge_bench.core.spec import AttackSpec, ParentClasses, Report, SetManifest, SetResult
from edge_bench.files.sets import AdversarialSet, open_set
from edge_bench.options.bench import BenchOptions
from edge_bench.policy.condition import parse_condition
from edge_bench.policy.evaluate import evaluate
from edge_bench.policy.policy_file import Policy
from edge_bench.report.doubts import doubts_in
from edge_bench.report.summary import accuracy_rows, compared_rows, summarise
from edge_bench.runs.one_run import run
from edge_bench.statistics.apart import (
    apart,
    corruption_accuracy,
    corruption_loss,
    mean_of,
    relative_loss,
)
from edge_bench.statistics.metrics import answers_of, encode_mask, worst_case_mask

MakeSet = Callable[..., Path]
Numbers = NDArray[np.int64]
LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
WRONG = (LABELS + 1) % 4


def at(*wrong: int) -> Numbers:
    """Classes that are right but for some samples."""
    found = LABELS.copy()
    found[list(wrong)] = WRONG[list(wrong)]
    return found


@pytest.fixture
def bare(
    make_model: Callable[..., Path], opened: AdversarialSet, quick: Callable[..., BenchOptions]
) -> Report:
    return run(make_model(), [], quick())


def result(name: str, ours: Numbers, clean: Numbers, stored: Numbers, **fields: Any) -> SetResult:
    attack = AttackSpec(
        name="apgd_apart", epsilon=8 / 255, step_size=None, steps=9, direction="artefact"
    )
    plain: dict[str, Any] = {"threat": "differential", "parent_sha256": "f" * 64}
    plain |= {"samples": len(LABELS), "image_shape": (1, 2, 2), "classes": 4, "dataset": "d"}
    plain |= {"attack": attack, "source_sha256": "0", "source_name": "s", "on_grid": True}
    plain |= {"arrays": {}, "versions": {}}
    return SetResult(
        name=name,
        manifest=SetManifest(**(plain | fields)),
        relation="this artefact",
        mask=encode_mask(ours == LABELS),
        answers=answers_of(ours, np.full(len(LABELS), 5000)),
        parent=ParentClasses(
            clean=encode_series(clean.tolist()), stored=encode_series(stored.tolist())
        ),
    )


def fog(severity: int, ours: Numbers, parent: Numbers) -> SetResult:
    attack = AttackSpec(name="fog", epsilon=1, step_size=None, steps=None, severity=severity)
    return result(f"fog{severity}", ours, LABELS, parent, threat="corruption", attack=attack)


def report_of(bare: Report, clean: Numbers, *results: SetResult) -> Report:
    return replace(
        bare,
        images_sha256="0",
        clean_mask=encode_mask(clean == LABELS),
        clean_answers=answers_of(clean, np.full(len(LABELS), 5000)),
        labels=encode_series(LABELS.tolist()),
        sets=results,
    )


def test_samples_are_told_apart_by_direction_over_all_sets_and_the_clean_images(
    bare: Report,
) -> None:
    # The clean images: sample 9 by the artefact's error; samples 8 by the parent's.
    ours, theirs = at(9, 0), at(8, 0)
    both_wrong = at(1, 2, 0)
    both_wrong[0] = (LABELS[0] + 2) % 4  # Of another class than the parent's error is.
    report = report_of(
        bare,
        ours,
        result("a", both_wrong, theirs, at(3, 0)),
        result("b", at(2, 4), theirs, at(4, 5)),
    )
    found = apart(report)
    assert found is not None
    assert np.flatnonzero(found.unattacked).tolist() == [8, 9]
    assert np.flatnonzero(found.artefact).tolist() == [1, 2, 9]
    assert np.flatnonzero(found.parent).tolist() == [3, 5, 8]
    assert found.either.sum() == 6
    rows = {row[0]: row[2:] for row in compared_rows(report)}
    ends = binomtest(6, 10).proportion_ci(method="wilson")
    interval = f"{100 * ends.low:.1f} to {100 * ends.high:.1f}"
    assert rows["divergence, either"] == ["60.0 %", interval, "10"]
    assert rows["divergence, parent"][0] == "30.0 %"
    assert rows["divergence, unattacked"][0] == "20.0 %"
    assert worst_case_mask(report) is None  # No attack on the artefact itself.


def test_a_report_without_a_differential_set_tells_nothing(bare: Report) -> None:
    assert apart(report_of(bare, LABELS, fog(1, LABELS, LABELS))) is None
    assert corruption_accuracy(bare) is None
    assert corruption_loss(bare) is None
    # Of a parent that is right of none there is nothing to lose.
    assert corruption_loss(report_of(bare, LABELS, fog(1, LABELS, WRONG))) is None


def test_corruption_is_the_mean_over_sets_and_the_loss_is_relative_to_the_parent(
    bare: Report,
) -> None:
    report = report_of(bare, LABELS, fog(1, at(0, 1), at(0)), fog(5, at(0, 1, 2, 3), at(0, 1, 2)))
    mean, loss = corruption_accuracy(report), corruption_loss(report)
    assert mean is not None
    assert loss is not None
    assert mean.value == pytest.approx((8 + 6) / 20)
    assert loss.value == pytest.approx(1 - 14 / 16)
    told = summarise(report)["corruption"]
    assert (told["mean_accuracy"], told["relative_loss"]) == (mean.value, loss.value)
    assert told["mean_accuracy_interval"] == list(mean.interval())
    assert told["relative_loss_interval"] == list(loss.interval())
    # Against the spread over drawings of the same images, and of the two that are counted besides.
    ours = np.mean([at(0, 1) == LABELS, at(0, 1, 2, 3) == LABELS], axis=0)
    theirs = np.mean([at(0) == LABELS, at(0, 1, 2) == LABELS], axis=0)
    drawn = np.random.default_rng(0).integers(0, 12, (20_000, 12))
    more = np.append(ours, [1, 0])
    assert mean.error == pytest.approx(more[drawn].mean(axis=1).std(), rel=0.1)
    ratio = ours.mean() / theirs.mean()
    apart_by = np.append(ours - ratio * theirs, [1, -ratio])[drawn].mean(axis=1).std()
    assert loss.error == pytest.approx(apart_by / theirs.mean(), rel=0.1)


def test_equal_answers_leave_an_interval_that_narrows_with_the_images() -> None:
    halves = []
    for images in (50, 5000):
        shares: NDArray[np.float64] = np.arange(images) % 2 * np.float64(1)
        low, high = relative_loss(shares, shares).interval()
        assert low < 0 < high
        halves.append(high)
    assert halves[0] > 20 * halves[1]
    assert mean_of(np.ones(100)).interval()[0] < 0.99
    # Where there is enough to see, it is what a bootstrap of the ratio gives.
    rng = np.random.default_rng(1)
    theirs: NDArray[np.float64] = rng.random(400)
    ours: NDArray[np.float64] = np.clip(theirs + rng.normal(-0.05, 0.2, 400), 0, 1)
    drawn = rng.integers(0, 400, (4000, 400))
    spread = (ours[drawn].mean(axis=1) / theirs[drawn].mean(axis=1)).std()
    assert relative_loss(ours, theirs).error == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("divergence <= 60%", "passed"),
        ("divergence <= 59%", "failed"),
        ("divergence_artefact <= 30%", "passed"),
        ("divergence_parent <= 29%", "failed"),
        ("corruption >= 80%", "passed"),
        ("corruption >= 81%", "failed"),
        ("corruption_loss <= 12%", "passed"),
        ("corruption_loss <= 11%", "failed"),
    ],
)
def test_a_policy_holds_a_report_to_each(bare: Report, condition: str, status: str) -> None:
    report = report_of(
        bare,
        at(9),
        result("a", at(1, 2), at(8), at(3, 4)),
        fog(1, at(0, 1), at(0)),
    )
    verdict = evaluate(report, Policy(conditions=(parse_condition(condition),)))
    assert verdict.status == status


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("divergence >= 10%", "expected divergence <= LIMIT"),
        ("corruption <= 10%", "expected corruption >= LIMIT"),
        ("divergence <= 10", "expected a fraction from 0 to 1"),
        ("rise(divergence) <= 1%", "no baseline holds it"),
        ("drop(corruption) <= 1%", "no baseline holds it"),
    ],
)
def test_a_condition_that_says_nothing_is_refused(condition: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parse_condition(condition)


def test_a_differential_set_that_breaks_what_the_worst_case_counts_is_a_doubt(
    bare: Report,
) -> None:
    attack = AttackSpec(name="pgd", epsilon=8 / 255, step_size=1 / 255, steps=3)
    weak = result("pgd", at(7), LABELS, LABELS, threat="bpda", attack=attack, parent_sha256=None)
    found = result("a", at(1, 2, 7), LABELS, LABELS)
    (doubt,) = [d for d in doubts_in(report_of(bare, LABELS, weak, found)) if "leaves out" in d]
    assert "break 2 of 10 images that it counts as robust" in doubt
    over = {row[0]: row[1] for row in accuracy_rows(report_of(bare, LABELS, weak, found))}
    assert over["worst case"] == "all attacks on it, per sample"
    wider = replace(attack, epsilon=4 / 255)
    narrow = replace(weak, manifest=replace(weak.manifest, attack=wider))
    assert not [d for d in doubts_in(report_of(bare, LABELS, narrow, found)) if "leaves out" in d]
    # The widest of several attacks counts, in whichever order they were replayed.
    both = report_of(bare, LABELS, weak, replace(narrow, name="narrow"), found)
    assert [d for d in doubts_in(both) if "leaves out" in d] == [doubt]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"threat": "bpda"}, "expected a direction of its attack with the threat differential"),
        ({"parent_sha256": None}, "expected the parent_sha256 of a differential set"),
        ({"threat": "corruption"}, "expected a direction of its attack"),
        (
            {"threat": "bpda", "attack": AttackSpec(name="pgd", epsilon=0.1, step_size=1, steps=1)},
            "expected no parent_sha256 of a set with the threat bpda",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        result("a", LABELS, LABELS, LABELS, **fields)


def test_the_parent_s_classes_are_held_to_their_range_and_their_set(
    make_set: MakeSet, labels: NDArray[np.int64]
) -> None:
    attack = AttackSpec(name="diva", epsilon=16 / 255, step_size=1, steps=1, direction="parent")
    manifest = {"attack": attack, "threat": "differential", "parent_sha256": "1"}
    said = np.stack([labels, labels], axis=1)
    assert open_set(make_set("whole", parent=said, manifest=manifest)).parent is not None
    said[-1, 1] = 4
    with pytest.raises(InputError, match="expected the parent's classes from 0 to 3, came 2 to 4"):
        open_set(make_set("beyond", parent=said, manifest=manifest))
    with pytest.raises(InputError, match=r"lists no hash of parent\.npy"):
        open_set(make_set("without", manifest=manifest))
