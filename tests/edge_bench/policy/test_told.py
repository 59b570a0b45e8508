"""What a verdict looks like, word for word, to each of its readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import xmlschema

from edge_bench.core.series import encode_series
from edge_bench.core.spec import Report
from edge_bench.files.store import write_json

MakeReport = Callable[..., Report]
Invoke = Callable[..., tuple[int, str, str]]
GOLDEN = Path(__file__).parent / "golden"
KINDS = {
    "passed": (["worst_case >= 40%"], 0),
    "failed": (["worst_case >= 60%", "drop(worst_case) <= 1%", "class:* >= 1%"], 1),
    "inconclusive": (["worst_case >= 52%", "latency_p95_ms <= 2"], 4),
}


@pytest.fixture
def files(make_report: MakeReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """new.json lost five samples of classes 'cat' and 'a|b' against old.json."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    labels = encode_series(i % 2 for i in range(200))
    for name, mask in (("old", "1" * 105), ("new", "0" * 5 + "1" * 100)):
        report = make_report("1" * 200, {"pgd": mask.ljust(200, "0")})
        (result,) = report.sets
        manifest = replace(result.manifest, classes=2, class_names=("cat", "a|b"))
        report = replace(report, labels=labels, sets=(replace(result, manifest=manifest),))
        write_json(tmp_path / f"{name}.json", report, force=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def policy(kind: str) -> Path:
    conditions, _ = KINDS[kind]
    path = Path("gate.toml")
    path.write_text(
        f"confidence = 0.95\ncritical = {json.dumps(conditions)}\n"
        'advisory = ["size_bytes <= 10", "no_throttling"]\n',
        encoding="utf-8",
    )
    return path


def gated(invoke: Invoke, kind: str, *options: Any) -> str:
    changes = any("drop" in condition for condition in KINDS[kind][0])
    baseline = ("--baseline", "old.json") if changes else ()
    code, stdout, stderr = invoke("gate", "new.json", "--policy", policy(kind), *baseline, *options)
    assert (code, stderr) == (KINDS[kind][1], "")
    return stdout


def same_as_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    assert path.read_text(encoding="utf-8") == text, f"{path}: differs; see that it is meant"


@pytest.mark.parametrize("kind", KINDS)
def test_lines(invoke: Invoke, files: Path, kind: str) -> None:
    same_as_golden(f"{kind}.txt", gated(invoke, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_markdown(invoke: Invoke, files: Path, kind: str) -> None:
    same_as_golden(f"{kind}.md", gated(invoke, kind, "--md", "-"))


@pytest.mark.parametrize("kind", KINDS)
def test_json(invoke: Invoke, files: Path, kind: str) -> None:
    same_as_golden(f"{kind}.json", gated(invoke, kind, "--json"))


@pytest.mark.parametrize("kind", KINDS)
def test_junit(invoke: Invoke, files: Path, kind: str) -> None:
    gated(invoke, kind, "--junit", "junit.xml")
    text = Path("junit.xml").read_text(encoding="utf-8")
    same_as_golden(f"{kind}.xml", text)
    xmlschema.XMLSchema(GOLDEN.parents[2] / "data" / "junit.xsd").validate("junit.xml")
    suite = ElementTree.fromstring(text).find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    told = {
        name: sum(case.find(name) is not None for case in cases)
        for name in ("failure", "error", "skipped")
    }
    assert {name: int(suite.get(f"{name}s", suite.get(name, "0"))) for name in told} == told
    assert int(suite.get("tests", "0")) == len(cases)
    assert bool(told["failure"] or told["error"]) == (kind != "passed")


@pytest.mark.parametrize("kind", KINDS)
def test_annotations_and_summary_where_github_runs_it(
    invoke: Invoke, files: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    Path("summary.md").write_text("before\n", encoding="utf-8")
    stdout = gated(invoke, kind)
    commands = "".join(line + "\n" for line in stdout.splitlines() if line.startswith("::"))
    same_as_golden(f"{kind}.github", commands)
    summary = Path("summary.md").read_text(encoding="utf-8")
    assert summary == "before\n" + (GOLDEN / f"{kind}.md").read_text(encoding="utf-8")


def test_what_programs_read_stays_whole_where_github_runs_it(
    invoke: Invoke, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    command = ("gate", "new.json", "--require", "worst_case >= 99%")
    code, stdout, stderr = invoke(*command, "--json")
    assert (code, json.loads(stdout)["status"]) == (1, "failed")
    assert stderr.startswith("::error title=")
    _, stdout, stderr = invoke(*command, "--md", "-")
    assert stdout.startswith("### ardx gate: failed")
    assert stderr.startswith("::error title=")


def test_a_sentence_cannot_start_a_command_of_its_own(
    invoke: Invoke, make_report: MakeReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    name = "x\n::error::100%,y"
    path = tmp_path / "report.json"
    write_json(path, make_report("11", {name: "00"}), force=False)
    _, stdout, _ = invoke("gate", path, "--require", "attack:* >= 50%")
    commands = [line for line in stdout.splitlines() if line.startswith("::")]
    assert len(commands) == 1
    assert commands[0].startswith(
        "::error title=ardx gate%3A attack%3Ax %3A%3Aerror%3A%3A100%25%2Cy"
    )


def test_a_baseline_is_written_by_what_passes_and_over_nothing_else(
    invoke: Invoke, files: Path
) -> None:
    update = ("gate", "old.json", "--baseline", "base.json", "--update-baseline", "--require")
    assert invoke(*update, "worst_case >= 99%")[0] == 1
    assert not Path("base.json").exists()
    assert invoke(*update, "worst_case >= 50%")[:2] == (0, "gate: passed\n")
    against = ("--baseline", "base.json", "--require", "drop(worst_case) <= 1%")
    code, stdout, _ = invoke("gate", "new.json", *against)
    assert code == 1
    assert "newly broken: 5 samples (0, 1, 2, 3, 4); by class: cat 3, a|b 2" in stdout
    assert invoke("gate", "old.json", *against)[0] == 0
    before = Path("new.json").read_bytes()
    code, _, stderr = invoke(*update[:3], "new.json", *update[4:], "clean >= 1%")
    assert (code, stderr.count("\n")) == (2, 1)
    assert "writes over a baseline alone" in stderr
    assert Path("new.json").read_bytes() == before


def test_the_file_that_ships_is_the_file_that_was_measured(invoke: Invoke, files: Path) -> None:
    Path("other.engine").write_bytes(b"another model")
    for name, code in (("other.engine", 1), ("none.engine", 2)):
        found = invoke("gate", "new.json", "--artifact", name, "--require", "clean >= 1%")
        assert found[0] == code
        assert ("of another artefact (aaaaaaaaaaaa) than" in found[1]) == (code == 1)
        update = ("--baseline", "base.json", "--update-baseline", "--require", "clean >= 1%")
        assert invoke("gate", "new.json", "--artifact", name, *update)[0] == code
        assert not Path("base.json").exists()


def test_no_other_json_is_taken_for_a_baseline(invoke: Invoke, files: Path) -> None:
    thesis = Path("thesis.json")
    thesis.write_text('{"figures": ["a.png"], "title": "mine"}', encoding="utf-8")
    update = ("--baseline", thesis, "--update-baseline", "--require", "clean >= 1%")
    code, _, stderr = invoke("gate", "new.json", *update)
    assert (code, stderr.count("\n")) == (2, 1)
    assert "writes over a baseline alone" in stderr
    assert "mine" in thesis.read_text(encoding="utf-8")


@pytest.mark.parametrize("tiers", ["", 'advisory = ["no_doubts"]\n'])
def test_a_policy_asks_for_no_doubts_whatever_else_it_says_of_them(
    invoke: Invoke, files: Path, make_report: Callable[..., Report], tiers: str
) -> None:
    write_json(files / "alone.json", make_report("1" * 200), force=False)
    Path("gate.toml").write_text(f'critical = ["clean >= 1%"]\n{tiers}', encoding="utf-8")
    code, stdout, _ = invoke("gate", "alone.json", "--policy", "gate.toml")
    assert (code, stdout.endswith("gate: failed\n")) == (1, True)
