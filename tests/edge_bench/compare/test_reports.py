"""Two reports are told apart only where their samples can tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_bench.compare.accuracies import compare_accuracy, corrected
from edge_bench.compare.latencies import drawn_percentiles
from edge_bench.compare.reports import compare_reports
from edge_bench.compare.told import as_markdown, sentences, verdict_line
from edge_bench.core.errors import InputError
from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.files.store import write_json

MakeReport = Callable[..., Report]
Invoke = Callable[..., tuple[int, str, str]]


def masks(lost: int, won: int, both: int, neither: int) -> tuple[str, str]:
    """Of the old and the new: so many right for the one alone, the other alone, both, neither."""
    old = "1" * lost + "0" * won + "1" * both + "0" * neither
    new = "0" * lost + "1" * won + "1" * both + "0" * neither
    return old, new


@pytest.fixture
def pair(make_report: MakeReport) -> Callable[..., tuple[Report, Report]]:
    def make(lost: int, won: int, samples: int = 1000, **options: Any) -> tuple[Report, Report]:
        both = (samples - lost - won) // 2
        old, new = masks(lost, won, both, samples - lost - won - both)
        clean = "1" * samples
        labels = encode_series(i % 10 for i in range(samples))
        made = [make_report(clean, {"pgd": mask}, **options) for mask in (old, new)]
        return replace(made[0], labels=labels), replace(made[1], labels=labels)

    return make


@pytest.mark.parametrize(
    ("lost", "won", "samples", "verdict"),
    [
        (0, 0, 1000, "same"),
        (30, 30, 10_000, "same"),
        (3, 20, 1000, "better"),
        (40, 5, 1000, "worse"),
        (30, 20, 1000, "inconclusive"),
        (0, 0, 100, "inconclusive"),  # So few show no difference as small as a point.
        (300, 200, 100_000, "same"),  # Real (p < 1e-5), and too small to matter.
    ],
)
def test_the_verdict_follows_from_the_interval_and_the_margin(
    pair: Callable[..., tuple[Report, Report]], lost: int, won: int, samples: int, verdict: str
) -> None:
    change = compare_reports(*pair(lost, won, samples))
    head = change.headline
    assert head is not None
    assert (change.verdict, head.metric) == (verdict, "worst_case")
    assert head.difference == pytest.approx((won - lost) / samples)
    assert (len(head.lost or ()), len(head.won or ())) == (lost, won)
    assert (head.needed is None) == (verdict != "inconclusive")


def test_as_many_samples_as_are_said_would_decide(
    pair: Callable[..., tuple[Report, Report]],
) -> None:
    head = compare_reports(*pair(30, 20)).headline
    assert head is not None
    assert head.needed is not None
    times = head.needed / 1000 * 1.3  # It is a power of 80%, not a promise.
    old, new = pair(round(30 * times), round(20 * times), round(1000 * times))
    assert compare_reports(old, new).verdict in ("worse", "same")


def test_samples_newly_broken_and_won_are_told_by_index_and_class(
    pair: Callable[..., tuple[Report, Report]],
) -> None:
    told = sentences(compare_reports(*pair(3, 2)))
    assert "the same images, compared sample by sample" in told
    assert "newly broken: 0 (0), 1 (1), 2 (2)" in told
    assert "newly won: 3 (3), 4 (4)" in told


def test_other_images_are_compared_as_independent_samples_and_said_so(
    pair: Callable[..., tuple[Report, Report]],
) -> None:
    old, new = pair(60, 0)
    paired = compare_reports(old, new)
    change = compare_reports(old, replace(new, images_sha256="d" * 64))
    assert not change.is_paired
    assert "other images, compared as independent samples" in sentences(change)
    head = change.headline
    assert head is not None
    assert paired.headline is not None
    assert head.lost is None
    # Independent samples tell less of the same difference.
    assert head.interval[1] - head.interval[0] > (
        paired.headline.interval[1] - paired.headline.interval[0]
    )
    assert (paired.verdict, change.verdict) == ("worse", "worse")


def test_attacks_that_differ_are_left_out_and_said(make_report: MakeReport) -> None:
    old = make_report("1" * 100, {"pgd": "1" * 100, "cw": "0" * 100})
    new = make_report("1" * 100, {"pgd": "1" * 100, "fgsm": "0" * 100})
    change = compare_reports(old, new)
    assert (change.only_old, change.only_new) == (("cw",), ("fgsm",))
    head = change.headline
    assert head is not None
    assert (head.old, head.new) == (1.0, 1.0)  # Of the attack that both saw.
    assert any("only before, and left out: cw" in told for told in sentences(change))
    weaker = make_report("1" * 100, {"pgd": "1" * 100}, epsilon=4 / 255)
    assert compare_reports(old, weaker).only_new == ("pgd",)
    # Nor is an attack on what others left one on all images.
    (result,) = make_report("1" * 100, {"pgd": "1" * 100}).sets
    left = replace(result, manifest=replace(result.manifest, attacked="survivors"))
    survivors = replace(new, sets=(left,))
    assert compare_reports(old, survivors).only_new == ("pgd",)
    # But in a worst case with the same others it is.
    whole = compare_reports(make_report("1" * 100, {"pgd": "1" * 100}), survivors)
    assert [each.metric for each in whole.accuracies] == ["clean", "worst_case"]


def test_classes_of_other_images_are_compared_by_their_names(make_report: MakeReport) -> None:
    def of(names: tuple[str, ...], images: str) -> Report:
        made = make_report("1" * 50 + "0" * 50, images_sha256=images * 64)
        card = made.artifact.card
        assert card is not None
        artifact = replace(made.artifact, card=replace(card, class_names=names))
        # Whatever its number, the cat is right and the dog is wrong.
        labels = [names.index("cat")] * 50 + [names.index("dog")] * 50
        return replace(made, artifact=artifact, labels=encode_series(labels))

    old, new = of(("cat", "dog", "emu", "fox"), "c"), of(("dog", "cat", "emu", "fox"), "d")
    change = compare_reports(old, new)
    assert [(each.metric, each.old, each.new) for each in change.classes] == [
        ("class:dog", 0.0, 0.0),
        ("class:cat", 1.0, 1.0),
    ]


def test_of_many_classes_one_that_looks_worse_by_chance_is_no_verdict() -> None:
    at = np.arange(100)
    old = np.ones(100, dtype=bool)
    new = old.copy()
    new[:6] = False  # p = 0.03 alone
    same = [compare_accuracy(f"class:{i}", old, old, 0.01, at) for i in range(9)]
    worse = compare_accuracy("class:9", old, new, 0.01, at)
    assert worse.verdict == "worse"
    told = {change.metric: change for change in corrected([*same, worse])}
    assert told["class:9"].verdict == "inconclusive"
    assert told["class:9"].p_value == pytest.approx(10 * worse.p_value)


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


def test_reports_with_nothing_in_common_are_refused(make_report: MakeReport) -> None:
    few = make_report(latency_ms=[1.0] * 3)
    with pytest.raises(InputError, match="nothing in common to compare"):
        compare_reports(few, few)


def test_a_name_of_markup_is_no_markup(make_report: MakeReport) -> None:
    name = "<b>|x|\n@all"
    report = make_report("1" * 50, {name: "1" * 50})
    text = as_markdown(compare_reports(report, report))
    assert "<b>" not in text
    assert "@all" not in text
    assert "attack:&lt;b\\>\\|x\\| @\u2060all" in text


def test_the_command_says_it_to_people_programs_and_pull_requests(
    invoke: Invoke, pair: Callable[..., tuple[Report, Report]], tmp_path: Path
) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    for path, report in zip((old, new), pair(40, 5), strict=True):
        write_json(path, report, force=False)
    code, stdout, stderr = invoke("compare", old, new)
    assert (code, stderr) == (0, "")
    assert stdout.endswith("compare: worse (worst-case robust accuracy -3.50 points)\n")
    told = json.loads(invoke("compare", old, new, "--json")[1])
    assert (told["verdict"], len(told["classes"])) == ("worse", 10)
    comment = tmp_path / "comment.md"
    assert invoke("compare", old, new, "--md", comment)[0] == 0
    assert comment.read_text(encoding="utf-8") == invoke("compare", old, new, "--md", "-")[1]
    assert comment.read_text(encoding="utf-8").startswith("### compare: worse")
    code, _, stderr = invoke("compare", old, new, "--margin", 0)
    assert (code, stderr.count("\n")) == (2, 1)


def test_a_comparison_without_images_is_of_latencies_alone(make_report: MakeReport) -> None:
    change = compare_reports(make_report(), make_report())
    assert change.verdict == "inconclusive"
    assert "no common images" in verdict_line(change)


def test_a_model_without_any_robustness_is_compared_on_other_images(
    make_report: MakeReport,
) -> None:
    labels = encode_series(i % 2 for i in range(100))
    old = make_report("1" * 100, {"pgd": "0" * 100}, images_sha256="c" * 64)
    new = make_report("1" * 100, {"pgd": "10" * 50}, images_sha256="d" * 64)
    change = compare_reports(replace(old, labels=labels), replace(new, labels=labels))
    assert change.verdict == "better"
    assert change.headline is not None
    assert change.headline.detectable == pytest.approx(0.075, abs=0.001)


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
