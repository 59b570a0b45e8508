"""The suite of speed: what a verdict is, that its rivals do the same, and that it works at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.lines import RESULTS, recorded
from benchmarks.speed import machine, published, report, run
from benchmarks.speed.finding import Asked, Finding, against, alone, missing
from benchmarks.speed.subjects import growth, ranking
from benchmarks.speed.turns import by_turns

QUIET = {"quick": False, "load_before": 0.5, "load_after": 1.5, "cores": 2}


def quick(folder: Path) -> Asked:
    return Asked(turns=1, quick=True, work=folder)


@pytest.mark.parametrize(
    ("how", "bar", "value", "held"),
    [
        ("over", 1.0, 0.5, True),
        ("over", 0.4, 0.5, False),
        ("times as fast", 1.9, 2.0, True),
        ("times as fast", 2.1, 2.0, False),
        ("more", -1.0, -1.0, True),
        ("more", -1.5, -1.0, False),
    ],
)
def test_a_verdict_is_of_the_median_of_the_turns(
    how: str, bar: float, value: float, held: bool
) -> None:
    found = against([1.0, 1.0, 3.0], [2.0, 2.0, 2.0], how, rival="another", bar=bar)
    assert (found.value, found.held) == (value, held)
    assert (found.ours, found.theirs, found.turns) == (1.0, 2.0, 3)
    assert Finding.read(found.line()).held is held


def test_a_rival_that_is_not_here_has_no_verdict() -> None:
    found = missing("nncf", "over", "nncf is not installed", bar=1.0)
    assert found.held is None
    assert "nncf is not installed" in report._cell(found.line() | QUIET)


def test_turns_that_disagree_are_told() -> None:
    found = alone([0.9, 1.0, 1.4], rival="itself", bar=1.05)
    assert found.held
    assert "**held**, the turns disagree" in report._cell(found.line() | QUIET)


def test_who_begins_changes_from_turn_to_turn() -> None:
    began: list[str] = []
    rivals = {name: (lambda name=name: began.append(name)) for name in "abc"}
    by_turns(rivals, 3)
    assert "".join(began) == "abcbcacab"


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ("flags : sse avx2", "AVX2"),
        ("flags : avx2 avx512f", "AVX512"),
        ("flags : avx2 avx512f avx512_vnni avx512_bf16", "AVX512-VNNI"),
        ("Features : fp asimd asimddp", "Neon, dot products"),
    ],
)
def test_machines_are_told_apart_by_what_decides_their_speed(
    flags: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"model name : any\n{flags}\n", encoding="utf-8")
    assert machine.kind(tmp_path) == kind
    assert machine.has_bf16(tmp_path) == ("bf16" in flags)


def test_a_subject_that_does_not_exist_is_refused_and_the_demo_has_to_be_asked_for() -> None:
    assert "expected subjects out of size" in str(run.chosen("sise"))
    assert run.chosen("page, size") == ["size", "page"]
    assert "demo" not in run.chosen("")
    assert run.chosen("demo") == ["demo"]


@pytest.mark.parametrize("name", run.SUBJECTS)
def test_every_subject_says_what_it_measures_and_has_a_quick_form(
    name: str, tmp_path: Path
) -> None:
    subject = run.subject_named(name)
    assert subject.TITLE
    assert subject.ABOUT
    assert subject.LEFT
    assert subject.SECONDS > 0
    full = Asked(turns=5, quick=False, work=tmp_path)
    assert 0 < len(subject.cases(quick(tmp_path))) <= len(subject.cases(full))


def test_the_full_form_takes_what_its_page_says() -> None:
    everything = [name for name in run.SUBJECTS if name not in run.ASKED_FOR]
    minutes = round(sum(run.subject_named(name).SECONDS for name in everything) / 60)
    page = (RESULTS / "speed.md").read_text(encoding="utf-8")
    assert f"some {minutes} minutes of a quiet machine" in page


def measured(name: str, folder: Path) -> Path:
    lines = folder / "lines.jsonl"
    with pytest.raises(SystemExit) as ended:
        run.measure(name, quick(folder), lines)
    assert ended.value.code == 0
    return lines


@pytest.mark.parametrize("name", ["size", "start", "page"])
def test_a_subject_runs_writes_its_lines_and_its_table_and_is_not_measured_twice(
    name: str, tmp_path: Path
) -> None:
    lines = measured(name, tmp_path)
    text = lines.read_text(encoding="utf-8")
    for line in map(json.loads, text.splitlines()):
        assert (line["subject"], line["quick"]) == (name, True)
        assert line["value"] is not None
        assert line["held"] in (True, False)
        assert line["versions"]["numpy"]
        assert line["load_after"] >= 0
    measured(name, tmp_path)
    assert lines.read_text(encoding="utf-8") == text
    page = report.maker(report.newest(recorded(lines).values()))("subjects", "all")
    assert page.count("| **held**") + page.count("**missed**") + page.count("**held**") > 0
    assert "quick form" in page


def test_a_full_line_stands_before_a_quick_one_and_a_later_one_before_an_earlier() -> None:
    common = {"subject": "size", "case": "all", "kind": "AVX2"} | QUIET
    first = alone([1.0], rival="itself").line() | common
    second, third = first | {"value": 2.0}, first | {"value": 3.0, "quick": True}
    assert [line["value"] for line in report.newest([third, first, second, third])] == [2.0]
    other = first | {"kind": "AVX512"}
    header, row = report.table([first, other | {"value": 4.0}])
    assert header[-2:] == ["AVX2", "AVX512"]
    assert row[-2].startswith("1")
    (_, busy) = report.table([first | {"load_after": 3.0}])
    assert "beside other work, load 3" in busy[-1]
    assert row[-1].startswith("4")


def test_the_page_is_what_its_lines_say() -> None:
    maker = report.maker(report.newest(recorded(run.LINES).values()))
    text = report.PAGE.read_text(encoding="utf-8")
    assert maker("machines", "all") in text
    assert maker("subjects", "all") in text


def test_the_broadcast_is_the_same_loss() -> None:
    torch.manual_seed(0)
    of = ranking.logits(6, 5)
    assert float(ranking.broadcast(of)) == pytest.approx(float(ranking.ours(of)), abs=1e-5)
    assert of[0].grad is not None
    half = of[0].grad / 2
    of[0].grad = None
    ranking.ours(of)
    torch.testing.assert_close(of[0].grad, half, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", published.STEPS)
def test_a_published_step_attacks_inside_the_ball_and_learns(name: str) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(12, 5) for _ in range(2)]
    student, teacher = (torch.nn.Sequential(torch.nn.Flatten(), layer) for layer in layers)
    images = torch.rand(4, 3, 2, 2)
    loop = published.loop(student, teacher, images, steps=5, epsilon=0.1, step_size=0.04)
    asked: list[torch.Tensor] = []
    student.register_forward_pre_hook(lambda _, given: asked.append(given[0].detach()))
    before = layers[0].weight.detach().clone()
    published.STEPS[name](loop)
    assert not torch.equal(before, layers[0].weight)
    assert len(asked) == (7 if name == "rslad" else 6)
    assert 0.1 - 1e-6 < max(float((each - images).abs().max()) for each in asked) < 0.1 + 1e-6
    assert all(float(each.min()) >= 0 and float(each.max()) <= 1 for each in asked[1:])


def test_the_steepest_exponent_is_between_neighbours() -> None:
    assert growth.steepest({10: 1.0, 100: 1.0, 1000: 100.0}) == pytest.approx(2.0)
    assert growth.steepest({1: 3.0, 10: 30.0}) == pytest.approx(1.0)


def test_a_bar_that_the_spread_holds_is_not_clear() -> None:
    found = alone([1.0, 2.0, 3.0], rival="itself", bar=2.5)
    assert not found.clear
    assert replace(found, bar=9.0).clear
