"""Two walks from files to logits are told apart picture by picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_bench.compare.pictures import compare_pictures
from edge_bench.compare.reports import compare_reports
from edge_bench.compare.told import accuracy_rows, latency_rows, sentences, verdict_line
from edge_bench.core.pictures.walked import Walked
from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.files.store import write_json
from edge_bench.statistics.stats import mcnemar_p_value

from ..walks import SAMPLES, walked

MakeReport = Callable[..., Report]
Invoke = Callable[..., tuple[int, str, str]]


def test_pictures_lost_and_won_are_counted_on_their_own_files() -> None:
    change = compare_pictures(walked(range(5)), walked(range(3, 30)), 0.01, 0.05)
    found = change.accuracy
    assert (found.metric, found.old, found.new) == ("path_accuracy", 1 - 5 / 400, 1 - 27 / 400)
    assert (found.lost, found.won) == (tuple(range(5, 30)), (0, 1, 2))
    assert found.p_value == mcnemar_p_value(25, 3)
    assert found.verdict == "worse"


def test_a_slower_way_is_told_of_all_stages_together() -> None:
    change = compare_pictures(walked(), walked(ms=3.0), 0.01, 0.05)
    assert [each.metric for each in change.latencies] == ["path_p50_ms", "path_p95_ms"]
    assert {each.verdict for each in change.latencies} == {"worse"}
    assert change.latencies[0].ratio[0] == pytest.approx(1.5, rel=0.01)
    # 3% more are within the margin of latencies, whatever that of accuracies is.
    little = compare_pictures(walked(), walked(ms=2.06), 0.01, 0.05)
    assert {each.verdict for each in little.latencies} == {"same"}


@pytest.mark.parametrize(
    "other",
    # Other files, or the same ones that were sorted anew.
    [{"files_sha256": "e" * 64}, {"labels": encode_series([0, 0, 1, 1] * (SAMPLES // 4))}],
)
def test_other_pictures_are_independent_samples(make_report: MakeReport, other: Any) -> None:
    old = replace(make_report(), pictures=walked())
    new = replace(make_report(), pictures=walked(pipeline="opencv", **other))
    change = compare_reports(old, new)
    assert change.pictures is not None
    assert change.pictures.accuracy.lost is None
    told = sentences(change)
    assert "other pictures, by pillow before and opencv after, compared as independent samples" in (
        told
    )


def test_without_sets_the_verdict_is_that_of_pictures(make_report: MakeReport) -> None:
    old = replace(make_report(), pictures=walked())
    new = replace(make_report(), pictures=walked(range(40), pipeline="opencv"))
    change = compare_reports(old, new)
    assert change.verdict == "worse"
    assert verdict_line(change) == "compare: worse (accuracy from file to logits -10.00 points)"
    told = sentences(change)
    assert "the same pictures, by pillow before and opencv after, compared one by one" in told
    # The first is an ant, taken for a bee.
    assert any(s.startswith("newly broken from file to logits: 0 (ant), 1 (bee), ") for s in told)
    assert not any("images" in sentence for sentence in told)
    assert sum(sentence.startswith("newly broken") for sentence in told) == 1
    assert accuracy_rows(change)[0][:3] == ["path_accuracy", "100.0 %", "90.0 %"]
    assert [row[0] for row in latency_rows(change)][-2:] == ["path_p50_ms", "path_p95_ms"]


def test_beside_sets_the_verdict_is_theirs_and_pictures_are_told(make_report: MakeReport) -> None:
    made = make_report("1" * 1000, {"pgd": "1" * 1000})
    change = compare_reports(
        replace(made, pictures=walked()), replace(made, pictures=walked(range(40)))
    )
    assert change.verdict == "same"
    assert verdict_line(change) == (
        "compare: same (worst-case robust accuracy +0.00 points); from file to logits worse "
        "(-10.00 points)"
    )
    # What is newly broken is of the pictures alone, and told once.
    assert sum(told.startswith("newly broken") for told in sentences(change)) == 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (walked(), None, "only before, and left out: pictures from file to logits"),
        (None, walked(), "only after, and left out: pictures from file to logits"),
        (
            walked(),
            walked(class_names=("ant", "wasp")),
            "pictures from file to logits are of other classes than before, and left out",
        ),
        (
            walked(),
            walked(class_names=("bee", "ant")),
            "pictures from file to logits are of other classes than before, and left out",
        ),
    ],
)
def test_what_cannot_be_compared_is_left_out_and_said(
    make_report: MakeReport, old: Walked | None, new: Walked | None, told: str
) -> None:
    made = make_report("1" * 1000, {"pgd": "1" * 1000})
    change = compare_reports(replace(made, pictures=old), replace(made, pictures=new))
    assert change.pictures is None
    assert told in sentences(change)


def test_the_command_has_it_in_its_json(
    invoke: Invoke, make_report: MakeReport, tmp_path: Path
) -> None:
    paths = tmp_path / "old.json", tmp_path / "new.json"
    for path, wrong in zip(paths, (range(0), range(40)), strict=True):
        write_json(path, replace(make_report(), pictures=walked(wrong)), force=False)
    told = json.loads(invoke("compare", *paths, "--json")[1])
    assert (told["verdict"], told["pictures"]["accuracy"]["verdict"]) == ("worse", "worse")
    assert told["pictures"]["pipelines"] == ["pillow", "pillow"]
    assert invoke("compare", *paths)[1].endswith(
        "compare: worse (accuracy from file to logits -10.00 points)\n"
    )
