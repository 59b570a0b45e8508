"""Two reports are told apart only where their samples can tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_bench.compare.accuracies import compare_accuracy, corrected
from edge_bench.compare.reports import compare_reports
from edge_bench.compare.told import as_markdown, sentences, verdict_line
from edge_bench.core.errors import InputError
from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.files.store import write_json
from edge_bench.statistics.power import paired_samples

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
        made = [make_report(clean, {"pgd": mask}, classes=10, **options) for mask in (old, new)]
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
    # A power of 80% it is in what so many are said to show, too.
    assert paired_samples(1.001 * head.detectable, 52 / 1002) <= 1000
    assert paired_samples(0.98 * head.detectable, 52 / 1002) > 1000
    old, new = pair(round(30 * times), round(20 * times), round(1000 * times))
    assert compare_reports(old, new).verdict in ("worse", "same")


def test_the_fewest_samples_that_would_decide_are_told(
    pair: Callable[..., tuple[Report, Report]],
) -> None:
    head = compare_reports(*pair(3, 2, 300)).headline
    assert head is not None
    # By hand: to show that a loss of a third of a point is within a margin of one takes an
    # interval of 2/3 of a point to each side; to show the loss itself takes eight times as many.
    spread = (3 + 2 + 2) / (300 + 2)
    assert head.needed == ceil(spread * (1.959964 / (0.01 - 1 / 300)) ** 2)


def test_samples_newly_broken_and_won_are_told_by_index_and_class(
    pair: Callable[..., tuple[Report, Report]],
) -> None:
    told = sentences(compare_reports(*pair(3, 2)))
    assert "the same images, compared sample by sample" in told
    assert "newly broken: 0 (0), 1 (1), 2 (2)" in told
    assert "newly won: 3 (3), 4 (4)" in told
    told = sentences(compare_reports(*pair(20, 21)))
    assert "newly broken: " + ", ".join(f"{i} ({i % 10})" for i in range(20)) in told
    assert any(said.startswith("newly won: 20") and said.endswith(" and 1 more") for said in told)


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
    apart = compare_reports(old, survivors)
    assert (apart.only_old, apart.only_new) == (("pgd", "cw"), ("pgd",))
    assert [each.metric for each in apart.accuracies] == ["clean"]
    # But in a worst case with the same others it is.
    whole = compare_reports(make_report("1" * 100, {"pgd": "1" * 100}), survivors)
    assert [each.metric for each in whole.accuracies] == ["clean", "worst_case"]
    told = "\n".join(sentences(whole))
    assert "in the worst case alone: pgd" in told
    assert "left out" not in told
    assert "in the worst case alone" not in "\n".join(sentences(apart))


def of_survivors(report: Report, name: str, **changes: Any) -> Report:
    """The report, whose attack `name` met what the others had left."""
    made = [
        replace(each, manifest=replace(each.manifest, attacked="survivors", **changes))
        if each.name == name
        else each
        for each in report.sets
    ]
    return replace(report, sets=tuple(made))


def test_an_attack_on_what_others_left_is_alike_beside_the_same_others(
    make_report: MakeReport,
) -> None:
    clean, half = "1" * 100, "0" * 50 + "1" * 50
    few = make_report(clean, {"cw": clean, "square": "1" * 60 + "0" * 40})
    many = make_report(clean, {"cw": clean, "pgd": half, "square": "0" * 50 + "1" * 40 + "0" * 10})

    # What PGD broke, Square did not try in one of them: of its own it says nothing there.
    change = compare_reports(of_survivors(few, "square"), of_survivors(many, "square"))
    assert [each.metric for each in change.accuracies] == ["clean", "worst_case", "attack:cw"]
    assert (change.only_old, change.only_new) == (("square",), ("pgd", "square"))
    assert change.headline is not None
    assert (change.headline.old, change.headline.new) == (1.0, 1.0)

    # Of the same others it is their worst case with it, and a set in files is the same anywhere.
    same = compare_reports(of_survivors(few, "square"), of_survivors(few, "square"))
    stored = {"arrays": {"images.npy": "d" * 64}}
    old, new = (of_survivors(each, "square", **stored) for each in (few, many))
    in_files = compare_reports(old, new)
    for change in (same, in_files):
        assert change.accuracies[-1].metric == "attack:square"

    # A corruption or a differential set beside them is no part of a worst case.
    extra = make_report(clean, {"cw": clean, "square": "1" * 60 + "0" * 40, "fog": half})
    told = extra.sets[-1].manifest
    attack = replace(told.attack, severity=3, epsilon=1)
    fog = replace(told, threat="corruption", attack=attack)
    extra = replace(extra, sets=(*extra.sets[:-1], replace(extra.sets[-1], manifest=fog)))
    change = compare_reports(of_survivors(few, "square"), of_survivors(extra, "square"))
    assert change.only_new == ("fog",)
    assert change.headline is not None
    assert (change.headline.old, change.headline.new) == (0.6, 0.6)


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


def test_what_so_many_samples_show_is_told_of_the_fewer(make_report: MakeReport) -> None:
    old = make_report("1" * 60 + "0" * 40, images_sha256="c" * 64)
    new = make_report("1" * 220 + "0" * 180, images_sha256="d" * 64)
    (told,) = [said for said in sentences(compare_reports(old, new)) if "power of 80 %" in said]
    assert told.startswith("inconclusive: 100 samples show a difference of ")


def test_reports_with_nothing_in_common_are_refused(make_report: MakeReport) -> None:
    few = make_report(latency_ms=[1.0] * 3)
    with pytest.raises(InputError, match="nothing in common to compare"):
        compare_reports(few, few)


def test_each_cell_stands_under_what_it_is(make_report: MakeReport) -> None:
    old = make_report("1" * 100, {"pgd": "1" * 90 + "0" * 10}, latency_ms=[10.0] * 200)
    new = make_report("1" * 100, {"pgd": "1" * 80 + "0" * 20}, latency_ms=[20.0] * 250)
    text = as_markdown(compare_reports(old, new)).replace("\\", "")
    tables = [
        [[cell.strip() for cell in line[1:-1].split("|")] for line in part.splitlines()]
        for part in text.split("\n\n")
        if part.startswith("|")
    ]
    found = [
        {row[0]: dict(zip(table[0][1:], row[1:], strict=True)) for row in table[2:]}
        for table in tables
    ]
    worst = found[0]["worst_case"]
    assert (worst["before"], worst["after"], worst["lost, won"]) == ("90.0 %", "80.0 %", "10, 0")
    assert worst["change (95%)"].startswith("-10.00 (-1")
    assert worst["p"] == f"{2 * 0.5**10:.2g}"
    assert worst["verdict"] == "worse"
    median = found[1]["latency_p50_ms"]
    assert (median["before"], median["after"]) == ("10.000 ms", "20.000 ms")
    assert median["ratio (95%)"] == "2.000 (2.000 to 2.000)"
    assert (median["calls"], median["verdict"]) == ("200, 250", "worse")


def test_classes_stay_in_their_order_whatever_changed(
    pair: Callable[..., tuple[Report, Report]],
) -> None:
    # Each class loses 10 of its samples; the first 5 win one, so that less is sure of those.
    change = compare_reports(*pair(100, 5))
    # By Holm: of ten tests, and of those that are left once the other five are told apart.
    sure, less = 10 * 2 * 0.5**10, 5 * 2 * 12 * 0.5**11
    assert [each.p_value for each in change.classes] == pytest.approx([less] * 5 + [sure] * 5)
    assert {each.verdict for each in change.classes[:5]} == {"inconclusive"}
    assert [each.metric for each in change.classes] == [f"class:{i}" for i in range(10)]


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


def test_what_was_not_attacked_is_of_no_other_dataset(make_report: MakeReport) -> None:
    bare = make_report("1" * 100, images_sha256="c" * 64)
    attacked = make_report("1" * 100, {"pgd": "1" * 100}, images_sha256="d" * 64)
    for old, new in ((bare, attacked), (attacked, bare)):
        assert [each.metric for each in compare_reports(old, new).accuracies] == ["clean"]


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
